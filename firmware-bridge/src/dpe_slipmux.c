/*
 * slipmux frames (draft-bormann-t2trg-slipmux):
 *
 *   END | type | bytes, END and ESC among them escaped ... | FCS low | FCS high | END
 *
 * Type 0xa9 is a CoAP message with an FCS over type and message, 0x0a is text without one.
 */
#include "dpe_bridge.h"

enum { END = 0xc0, ESC = 0xdb, ESC_END = 0xdc, ESC_ESC = 0xdd, COAP = 0xa9, TEXT = 0x0a };
enum { SKIP, START, WITHIN, ESCAPED };
enum { OPEN, TYPE, BODY, BODY_ESCAPED, FCS_LOW, FCS_LOW_ESCAPED, FCS_HIGH, FCS_HIGH_ESCAPED, CLOSE, DONE };
enum { FCS_SIZE = 2, HEADER_SIZE = 4 };

uint16_t dpe_fcs(uint16_t fcs, uint8_t byte) {
  uint16_t crc = (uint16_t)(fcs ^ byte);
  for (int bit = 0; bit < 8; bit++) crc = (uint16_t)((crc & 1u) != 0 ? (crc >> 1) ^ 0x8408u : crc >> 1);
  return crc;
}

void dpe_decoder_init(dpe_decoder *decoder) {
  decoder->length = 0;
  decoder->fcs = DPE_FCS_START;
  /* What runs before the first END is unknown. */
  decoder->state = SKIP;
}

int dpe_decoder_is_within(const dpe_decoder *decoder) {
  return decoder->state == WITHIN || decoder->state == ESCAPED;
}

int dpe_decoder_push(dpe_decoder *decoder, uint8_t *message, uint16_t size, uint8_t byte) {
  if (byte == END) {
    int was_within = dpe_decoder_is_within(decoder);
    int is_good = decoder->state == WITHIN && decoder->fcs == DPE_FCS_GOOD && decoder->length >= HEADER_SIZE + FCS_SIZE;
    int length = decoder->length - FCS_SIZE;
    decoder->state = START;
    if (is_good) return length;
    return was_within ? DPE_ERROR_FORMAT : 0;
  }
  switch (decoder->state) {
    case START:
      decoder->state = byte == COAP ? WITHIN : SKIP;
      decoder->length = 0;
      decoder->fcs = dpe_fcs(DPE_FCS_START, byte);
      return 0;
    case WITHIN:
      if (byte == ESC) {
        decoder->state = ESCAPED;
        return 0;
      }
      break;
    case ESCAPED:
      if (byte != ESC_END && byte != ESC_ESC) {
        decoder->state = SKIP;
        return DPE_ERROR_FORMAT;
      }
      byte = byte == ESC_END ? END : ESC;
      decoder->state = WITHIN;
      break;
    default: return 0;
  }
  /* The FCS needs room too, but only for as long as it is not known to be one: it goes through the same buffer. */
  if (decoder->length >= size) {
    decoder->state = SKIP;
    return DPE_ERROR_SPACE;
  }
  message[decoder->length++] = byte;
  decoder->fcs = dpe_fcs(decoder->fcs, byte);
  return 0;
}

void dpe_encoder_init(dpe_encoder *encoder, const uint8_t *bytes, uint16_t length, int is_text) {
  encoder->bytes = bytes;
  encoder->length = length;
  encoder->position = 0;
  encoder->fcs = DPE_FCS_START;
  encoder->state = OPEN;
  encoder->is_text = is_text != 0;
}

/* Gives a byte or the first half of its escape; the state after the byte, or the one of the second half. */
static uint8_t escaped(uint8_t value, uint8_t *byte, uint8_t next, uint8_t second_half) {
  if (value == END || value == ESC) {
    *byte = ESC;
    return second_half;
  }
  *byte = value;
  return next;
}

static uint8_t second_half_of(uint8_t value) {
  return value == END ? ESC_END : ESC_ESC;
}

int dpe_encoder_next(dpe_encoder *encoder, uint8_t *byte) {
  uint8_t value;
  if (encoder->state == BODY && encoder->position == encoder->length) {
    encoder->fcs ^= 0xffffu;
    encoder->state = encoder->is_text != 0 ? CLOSE : FCS_LOW;
  }
  switch (encoder->state) {
    case OPEN:
      *byte = END;
      encoder->state = TYPE;
      return 1;
    case TYPE:
      *byte = encoder->is_text != 0 ? TEXT : COAP;
      encoder->fcs = dpe_fcs(encoder->fcs, *byte);
      encoder->state = BODY;
      return 1;
    case BODY:
      value = encoder->bytes[encoder->position];
      encoder->state = escaped(value, byte, BODY, BODY_ESCAPED);
      if (encoder->state == BODY_ESCAPED) return 1;
      break;
    case BODY_ESCAPED:
      value = encoder->bytes[encoder->position];
      *byte = second_half_of(value);
      encoder->state = BODY;
      break;
    case FCS_LOW:
      encoder->state = escaped((uint8_t)(encoder->fcs & 0xffu), byte, FCS_HIGH, FCS_LOW_ESCAPED);
      return 1;
    case FCS_LOW_ESCAPED:
      *byte = second_half_of((uint8_t)(encoder->fcs & 0xffu));
      encoder->state = FCS_HIGH;
      return 1;
    case FCS_HIGH:
      encoder->state = escaped((uint8_t)(encoder->fcs >> 8), byte, CLOSE, FCS_HIGH_ESCAPED);
      return 1;
    case FCS_HIGH_ESCAPED:
      *byte = second_half_of((uint8_t)(encoder->fcs >> 8));
      encoder->state = CLOSE;
      return 1;
    case CLOSE:
      *byte = END;
      encoder->state = DONE;
      return 1;
    default: return 0;
  }
  encoder->fcs = dpe_fcs(encoder->fcs, value);
  encoder->position++;
  return 1;
}
