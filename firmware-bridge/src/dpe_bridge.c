/*
 * The server. One message buffer holds in turn a message that is being received, one that is being answered and one that
 * is being sent; only an answer's window into a longer representation is ever in it.
 */
#include "dpe_internal.h"

enum { FRAME_TIMEOUT_MS = 500 };

static const char STARTED[] = "dpe-bridge: started";

static int is_power_of_two(uint16_t value) {
  return (value & (value - 1u)) == 0;
}

int dpe_bridge_init(dpe_bridge *bridge, const dpe_config *config, uint32_t now_ms) {
  uint8_t *bytes = (uint8_t *)bridge;
  if (bridge == NULL || config == NULL || config->message == NULL || config->ring == NULL) return DPE_ERROR_ARGUMENT;
  if (config->property_count > DPE_MAX_PROPERTIES || config->message_size < DPE_MIN_MESSAGE_SIZE) return DPE_ERROR_ARGUMENT;
  if (config->property_count > 0 && (config->properties == NULL || config->states == NULL)) return DPE_ERROR_ARGUMENT;
  if (config->ring_size < 16 || config->ring_size > 32768u || !is_power_of_two(config->ring_size)) return DPE_ERROR_ARGUMENT;
  for (uint8_t index = 0; index < config->property_count; index++) {
    const dpe_property *property = &config->properties[index];
    if (property->name == NULL || property->get == NULL || property->exponent < -9 || property->exponent > 9) return DPE_ERROR_ARGUMENT;
    if (property->type > DPE_TYPE_TEXT || property->dead_band < 0) return DPE_ERROR_ARGUMENT;
    if ((property->flags & DPE_WRITABLE) != 0 && property->set == NULL) return DPE_ERROR_ARGUMENT;
    config->states[index].flags = 0;
  }
  for (size_t index = 0; index < sizeof *bridge; index++) bytes[index] = 0;
  bridge->config = *config;
  dpe_decoder_init(&bridge->decoder);
  bridge->message_id = (uint16_t)(now_ms & 0xffffu);
  bridge->now_ms = now_ms;
  bridge->started_ms = now_ms;
  bridge->awaited = DPE_IDLE;
  return 0;
}

void dpe_bridge_receive(dpe_bridge *bridge, uint8_t byte) {
  uint16_t head = bridge->ring_head;
  if ((uint16_t)(head - bridge->ring_tail) >= bridge->config.ring_size) {
    bridge->lost++;
    return;
  }
  bridge->config.ring[head & (bridge->config.ring_size - 1u)] = byte;
  bridge->ring_head = (uint16_t)(head + 1u);
}

int dpe_bridge_transmit(dpe_bridge *bridge, uint8_t *byte) {
  if (bridge->is_sending == 0) return 0;
  if (dpe_encoder_next(&bridge->encoder, byte) != 0) return 1;
  bridge->is_sending = 0;
  return 0;
}

int dpe_bridge_log(dpe_bridge *bridge, const char *text, size_t length) {
  uint16_t taken = bridge->config.message_size;
  if (text == NULL || length == 0) return DPE_ERROR_ARGUMENT;
  if (bridge->is_sending != 0 || dpe_decoder_is_within(&bridge->decoder) != 0) return DPE_ERROR_BUSY;
  if (length < taken) taken = (uint16_t)length;
  for (uint16_t index = 0; index < taken; index++) bridge->config.message[index] = (uint8_t)text[index];
  dpe_send(bridge, taken, 1);
  return taken;
}

int dpe_bridge_poll(dpe_bridge *bridge, uint32_t now_ms) {
  bridge->now_ms = now_ms;
  if (bridge->is_sending != 0) return 1;
  while (bridge->ring_tail != bridge->ring_head) {
    uint16_t tail = bridge->ring_tail;
    uint8_t byte = bridge->config.ring[tail & (bridge->config.ring_size - 1u)];
    int length;
    bridge->ring_tail = (uint16_t)(tail + 1u);
    bridge->heard_ms = now_ms;
    length = dpe_decoder_push(&bridge->decoder, bridge->config.message, bridge->config.message_size, byte);
    if (length < 0) bridge->dropped++;
    /* The FCS over the message and its own two bytes is the same for all: the one sent tells messages apart. */
    if (length > 0) {
      const uint8_t *sent = bridge->config.message + length;
      dpe_handle_message(bridge, (uint16_t)length, (uint16_t)(sent[0] | (sent[1] << 8)));
    }
    if (bridge->is_sending != 0) return 1;
  }
  if (dpe_decoder_is_within(&bridge->decoder) != 0) {
    if (now_ms - bridge->heard_ms < FRAME_TIMEOUT_MS) return 0;
    dpe_decoder_init(&bridge->decoder);
    bridge->dropped++;
  }
  if (bridge->has_started == 0) {
    bridge->has_started = 1;
    (void)dpe_bridge_log(bridge, STARTED, sizeof STARTED - 1);
  } else if (bridge->awaited != DPE_IDLE) {
    dpe_handle_awaited(bridge);
  } else if (bridge->config.property_count > 0) {
    dpe_notify_next(bridge);
  }
  return bridge->is_sending;
}
