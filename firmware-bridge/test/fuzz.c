/*
 * libFuzzer's way into a whole bridge with 16 properties. The input is a list of chunks, each begun by a byte that says
 * what it is: bytes for the wire as they are; a CoAP message, which is framed with its right FCS, so that the server
 * behind the FCS is reached; a word from the main loop; a time that passes. Whatever the bridge sends must be frames that
 * its own decoder takes, and CoAP that its own reader takes.
 */
#include <stdlib.h>
#include <string.h>

#include "dpe_internal.h"

enum { PROPERTIES = 16, RING_SIZE = 128, MAX_MESSAGE = 512 };

typedef struct world {
  dpe_bridge bridge;
  dpe_property properties[PROPERTIES];
  dpe_property_state states[PROPERTIES];
  char names[PROPERTIES][8];
  int32_t values[PROPERTIES];
  dpe_decoder decoder;
  uint32_t now_ms;
  uint8_t *message;
  uint8_t *ring;
  uint8_t received[MAX_MESSAGE];
} world;

static int get(void *context, dpe_value *value) {
  int32_t *number = context;
  value->number = *number;
  value->text = "some text that is not so short";
  value->length = (uint16_t)((uint32_t)*number & 15u);
  return (*number & 64) != 0 ? DPE_ERROR_NO_VALUE : 0;
}

static int set(void *context, const dpe_value *value) {
  int32_t *number = context;
  for (uint16_t index = 0; index < value->length; index++) *number += value->text[index] & 1;
  if (value->text == NULL) *number = value->number;
  return *number == 13 ? DPE_ERROR_REFUSED : 0;
}

static void check_sent(world *all) {
  dpe_header header;
  dpe_options options;
  uint8_t byte;
  while (dpe_bridge_transmit(&all->bridge, &byte) != 0) {
    int length = dpe_decoder_push(&all->decoder, all->received, sizeof all->received, byte);
    if (length < 0) abort();
    if (length == 0) continue;
    if (dpe_read_header(all->received, (uint16_t)length, &header, &options) != 0) abort();
    while ((length = dpe_next_option(&options)) == 1) {
    }
    if (length != 0) abort();
  }
}

static void feed(world *all, uint8_t byte) {
  dpe_bridge_receive(&all->bridge, byte);
  (void)dpe_bridge_poll(&all->bridge, all->now_ms);
  check_sent(all);
}

static void step(world *all, uint8_t kind, const uint8_t *chunk, size_t length) {
  dpe_encoder encoder;
  uint8_t byte;
  switch (kind & 3) {
    case 0:
      for (size_t index = 0; index < length; index++) feed(all, chunk[index]);
      break;
    case 1:
      dpe_encoder_init(&encoder, chunk, (uint16_t)length, 0);
      while (dpe_encoder_next(&encoder, &byte) != 0) feed(all, byte);
      break;
    case 2:
      if (length > 0) (void)dpe_bridge_log(&all->bridge, (const char *)chunk, length);
      check_sent(all);
      break;
    default:
      for (size_t index = 0; index < length; index++) {
        all->now_ms += (uint32_t)chunk[index] * 8u;
        all->values[index % PROPERTIES] += (int8_t)chunk[index];
        (void)dpe_bridge_poll(&all->bridge, all->now_ms);
        check_sent(all);
      }
  }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
  world *all = calloc(1, sizeof *all);
  dpe_config config = {0};
  size_t at = 1;
  if (all == NULL || size < 2) {
    free(all);
    return 0;
  }
  config.message_size = (uint16_t)(DPE_MIN_MESSAGE_SIZE + data[0]);
  config.ring_size = RING_SIZE;
  /* Of their own, so that the sanitizer sees a byte too far. */
  all->message = malloc(config.message_size);
  all->ring = malloc(config.ring_size);
  for (uint8_t index = 0; index < PROPERTIES; index++) {
    dpe_property *property = &all->properties[index];
    all->names[index][0] = (char)('a' + index);
    if (index % 4 == 3) memcpy(&all->names[index][1], "/b", 2);
    property->name = all->names[index];
    property->unit = index % 2 == 0 ? "Cel" : NULL;
    property->type = index % 3;
    property->exponent = (int8_t)(index - 8);
    property->flags = (uint8_t)(index & 3);
    property->min_interval_ms = index * 10u;
    property->dead_band = index;
    property->minimum = -1000;
    property->maximum = 1000;
    property->get = get;
    property->set = set;
    property->context = &all->values[index];
    all->values[index] = index;
  }
  config.properties = all->properties;
  config.states = all->states;
  config.property_count = PROPERTIES;
  config.message = all->message;
  config.ring = all->ring;
  dpe_decoder_init(&all->decoder);
  if (all->message == NULL || all->ring == NULL || dpe_bridge_init(&all->bridge, &config, 0xfffffff0u) != 0) abort();
  while (at + 1 < size) {
    size_t length = data[at + 1];
    uint8_t kind = data[at];
    at += 2;
    if (length > size - at) length = size - at;
    step(all, kind, data + at, length);
    at += length;
  }
  free(all->message);
  free(all->ring);
  free(all);
  return 0;
}
