/*
 * Messages that carry a representation, and values: written through a window into the message buffer, so that a long one goes
 * out in blocks (RFC 7959) and never stands in memory whole.
 */
#include "dpe_internal.h"

/* Before the payload: header and token, ETag 3, Observe 4, Content-Format 2, Block2 4, payload marker 1. */
enum { HEAD_ROOM = 4 + DPE_TOKEN_SIZE + 3 + 4 + 2 + 4 + 1, SMALLEST_BLOCK = 16 };
enum { STATUS_FORMAT = 1 };

void dpe_send(dpe_bridge *bridge, uint16_t length, int is_text) {
  dpe_encoder_init(&bridge->encoder, bridge->config.message, length, is_text);
  bridge->is_sending = 1;
}

void dpe_send_header(dpe_bridge *bridge, const dpe_header *header) {
  dpe_writer writer;
  dpe_write_header(&writer, bridge->config.message, bridge->config.message_size, header);
  dpe_send(bridge, writer.length, 0);
}

static uint32_t block_size_of(const dpe_request *read) {
  return (uint32_t)SMALLEST_BLOCK << read->szx;
}

void dpe_open_window(const dpe_bridge *bridge, dpe_request *read, dpe_window *window) {
  uint32_t room = (uint32_t)bridge->config.message_size - HEAD_ROOM;
  /* The largest block that fits, at most of the size asked for; the same bytes have another number then. */
  while (read->szx > 0 && block_size_of(read) > room) {
    read->szx--;
    read->block <<= 1;
  }
  /* What fits whole needs no block, though it be no power of two; that is known only when it was put. */
  dpe_window_init(window, bridge->config.message + HEAD_ROOM, read->block * block_size_of(read),
                  read->has_block != 0 ? block_size_of(read) : room);
}

void dpe_send_window(dpe_bridge *bridge, const dpe_request *read, dpe_window *window, int32_t format, int is_observed) {
  uint8_t *message = bridge->config.message;
  uint32_t sent = window->total - window->from;
  int is_more = sent > window->size;
  dpe_writer writer;
  /* Too long to go out whole: the first block of it. Its bytes are in place already. */
  if (is_more) sent = block_size_of(read);
  dpe_write_header(&writer, message, HEAD_ROOM, &read->header);
  if (is_more || window->from > 0) {
    /* A value that changes between two blocks of it must not pass for a whole. */
    uint8_t etag[2] = {(uint8_t)(window->fcs >> 8), (uint8_t)(window->fcs & 0xffu)};
    dpe_write_option(&writer, DPE_OPTION_ETAG, etag, sizeof etag);
  }
  if (is_observed) dpe_write_uint_option(&writer, DPE_OPTION_OBSERVE, bridge->observe_sequence);
  dpe_write_uint_option(&writer, DPE_OPTION_CONTENT_FORMAT, (uint32_t)format);
  if (is_more || read->has_block != 0) {
    dpe_write_uint_option(&writer, DPE_OPTION_BLOCK2, (read->block << 4) | (is_more ? 8u : 0u) | read->szx);
  }
  /* The payload stands at HEAD_ROOM, after the options or right behind them: it moves toward the start, if at all. */
  writer.size = bridge->config.message_size;
  dpe_write_payload(&writer, message + HEAD_ROOM, (uint16_t)sent);
  dpe_send(bridge, writer.length, 0);
}

int dpe_value_of(const dpe_property *property, dpe_value *value) {
  value->number = 0;
  value->text = "";
  value->length = 0;
  return property->get(property->context, value);
}

int32_t dpe_mark_of(const dpe_property *property, const dpe_value *value) {
  uint16_t fcs = DPE_FCS_START;
  if (property->type != DPE_TYPE_TEXT) return value->number;
  for (uint16_t index = 0; index < value->length; index++) fcs = dpe_fcs(fcs, (uint8_t)value->text[index]);
  return (int32_t)(fcs | ((uint32_t)(value->length & 0x7fffu) << 16));
}

int32_t dpe_put_representation(const dpe_bridge *bridge, const dpe_request *read, uint32_t named, dpe_window *window) {
  const dpe_property *properties = bridge->config.properties;
  uint8_t count = 0;
  if (read->resource == DPE_LINKS) {
    dpe_put_links(window, properties, bridge->config.property_count);
    return DPE_LINK_FORMAT;
  }
  if (read->resource == DPE_STATUS) {
    for (uint8_t index = 0; index < bridge->config.property_count; index++)
      count = (uint8_t)(count + ((bridge->config.states[index].flags & DPE_OBSERVED) != 0));
    dpe_put_cbor_head(window, 4, 5);
    dpe_put_cbor_head(window, 0, STATUS_FORMAT);
    dpe_put_cbor_head(window, 0, bridge->now_ms - bridge->started_ms);
    dpe_put_cbor_head(window, 0, count);
    dpe_put_cbor_head(window, 0, bridge->dropped);
    dpe_put_cbor_head(window, 0, bridge->lost);
    return DPE_CBOR;
  }
  /* Of indefinite length: whether a getter has a value is known only when it was asked. */
  dpe_put(window, 0x9f);
  for (uint8_t index = 0; index < bridge->config.property_count; index++) {
    dpe_value value;
    if ((named >> index & 1u) == 0 || dpe_value_of(&properties[index], &value) != 0) continue;
    dpe_put_record(window, &properties[index], &value);
  }
  dpe_put(window, 0xff);
  return DPE_SENML_CBOR;
}

void dpe_put_property(dpe_window *window, const dpe_property *property, const dpe_value *value) {
  dpe_put_cbor_head(window, 4, 1);
  dpe_put_record(window, property, value);
}
