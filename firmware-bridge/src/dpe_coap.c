/* CoAP messages (RFC 7252 §3), read in place and written into the caller's buffer. */
#include "dpe_internal.h"

enum { HEADER_SIZE = 4, PAYLOAD_MARKER = 0xff, VERSION = 1 };

int dpe_read_header(const uint8_t *message, uint16_t length, dpe_header *header, dpe_options *options) {
  if (length < HEADER_SIZE || message[0] >> 6 != VERSION) return DPE_ERROR_FORMAT;
  header->type = (message[0] >> 4) & 3u;
  header->code = message[1];
  header->message_id = (uint16_t)((message[2] << 8) | message[3]);
  header->token_length = message[0] & 0x0fu;
  if (header->token_length > DPE_TOKEN_SIZE || length < HEADER_SIZE + header->token_length) return DPE_ERROR_FORMAT;
  /* RFC 7252 §4.1: an Empty message is its header alone. */
  if (header->code == 0 && length != HEADER_SIZE) return DPE_ERROR_FORMAT;
  for (uint8_t index = 0; index < header->token_length; index++) header->token[index] = message[HEADER_SIZE + index];
  options->message = message;
  options->length = length;
  options->position = (uint16_t)(HEADER_SIZE + header->token_length);
  options->number = 0;
  options->value = message;
  options->value_length = 0;
  return 0;
}

/* The extended form of a nibble (§3.1); the value, or DPE_ERROR_FORMAT. */
static int32_t extended(dpe_options *options, uint8_t nibble) {
  uint16_t needed = nibble == 14 ? 2 : 1;
  int32_t value;
  if (nibble < 13) return nibble;
  if (nibble == 15 || options->length - options->position < needed) return DPE_ERROR_FORMAT;
  value = options->message[options->position++];
  if (nibble == 13) return 13 + value;
  return 269 + value * 256 + options->message[options->position++];
}

int dpe_next_option(dpe_options *options) {
  uint8_t head;
  int32_t delta, length;
  if (options->position >= options->length) {
    options->value = options->message + options->length;
    options->value_length = 0;
    return 0;
  }
  head = options->message[options->position++];
  if (head == PAYLOAD_MARKER) {
    options->value = options->message + options->position;
    options->value_length = (uint16_t)(options->length - options->position);
    return options->value_length == 0 ? DPE_ERROR_FORMAT : 0;
  }
  delta = extended(options, head >> 4);
  if (delta < 0) return DPE_ERROR_FORMAT;
  length = extended(options, head & 0x0fu);
  if (length < 0 || length > options->length - options->position) return DPE_ERROR_FORMAT;
  options->number += (uint32_t)delta;
  if (options->number > 0xffffu) return DPE_ERROR_FORMAT;
  options->value = options->message + options->position;
  options->value_length = (uint16_t)length;
  options->position = (uint16_t)(options->position + length);
  return 1;
}

int32_t dpe_option_uint(const dpe_options *options) {
  uint32_t value = 0;
  if (options->value_length > 4) return DPE_NO_UINT;
  for (uint16_t index = 0; index < options->value_length; index++) value = (value << 8) | options->value[index];
  return value > INT32_MAX ? DPE_NO_UINT : (int32_t)value;
}

static void append(dpe_writer *writer, uint32_t byte) {
  if (writer->length < writer->size) writer->bytes[writer->length++] = (uint8_t)(byte & 0xffu);
}

void dpe_write_header(dpe_writer *writer, uint8_t *bytes, uint16_t size, const dpe_header *header) {
  writer->bytes = bytes;
  writer->size = size;
  writer->length = 0;
  writer->number = 0;
  append(writer, (uint32_t)((VERSION << 6) | (header->type << 4) | header->token_length));
  append(writer, header->code);
  append(writer, (uint32_t)header->message_id >> 8);
  append(writer, header->message_id);
  for (uint8_t index = 0; index < header->token_length; index++) append(writer, header->token[index]);
}

static uint32_t nibble_of(uint32_t value) {
  if (value < 13) return value;
  return value < 269 ? 13 : 14;
}

static void append_extension(dpe_writer *writer, uint32_t value) {
  if (value >= 269) {
    append(writer, (value - 269) >> 8);
    append(writer, value - 269);
  } else if (value >= 13) {
    append(writer, value - 13);
  }
}

void dpe_write_option(dpe_writer *writer, uint16_t number, const uint8_t *value, uint16_t length) {
  uint32_t delta = (uint32_t)(number - writer->number);
  writer->number = number;
  append(writer, (nibble_of(delta) << 4) | nibble_of(length));
  append_extension(writer, delta);
  append_extension(writer, length);
  for (uint16_t index = 0; index < length; index++) append(writer, value[index]);
}

void dpe_write_uint_option(dpe_writer *writer, uint16_t number, uint32_t value) {
  uint8_t bytes[4];
  uint8_t length = 0;
  for (int shift = 24; shift >= 0; shift -= 8) {
    if (length > 0 || value >> shift != 0) bytes[length++] = (uint8_t)((value >> shift) & 0xffu);
  }
  dpe_write_option(writer, number, bytes, length);
}

void dpe_write_payload(dpe_writer *writer, const uint8_t *payload, uint16_t length) {
  if (length == 0) return;
  append(writer, PAYLOAD_MARKER);
  for (uint16_t index = 0; index < length; index++) append(writer, payload[index]);
}

uint16_t dpe_text_length(const char *text) {
  uint16_t length = 0;
  while (text[length] != '\0') length++;
  return length;
}

int dpe_equals(const uint8_t *bytes, uint16_t length, const char *text) {
  for (uint16_t index = 0; index < length; index++) {
    if (text[index] == '\0' || (uint8_t)text[index] != bytes[index]) return 0;
  }
  return text[length] == '\0';
}
