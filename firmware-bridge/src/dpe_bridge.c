/*
 * The server. One message buffer holds in turn a message that is being received, one that is being answered and one that
 * is being sent; only an answer's window into a longer representation is ever in it.
 *
 * Notifications are Confirmable, one at a time; what is not acknowledged is sent again with the value as it is then
 * (RFC 7641 §4.5.2), and who acknowledges nothing observes nothing any more.
 */
#include "dpe_internal.h"

enum { IDLE = DPE_MAX_PROPERTIES };
enum { OBSERVED = 1 };
enum { ACK_TIMEOUT_MS = 250, MAX_ATTEMPTS = 5, FRAME_TIMEOUT_MS = 500 };
enum { STATUS_FORMAT = 1, TOKEN_ROOM = DPE_TOKEN_SIZE };
/* Before the payload: header and token, ETag 3, Observe 4, Content-Format 2, Block2 4, payload marker 1. */
enum { HEAD_ROOM = 4 + TOKEN_ROOM + 3 + 4 + 2 + 4 + 1, SMALLEST_BLOCK = 16, LARGEST_SZX = 6 };
/* Its bytes begin below 64 KiB at any size of block, which nothing here is longer than. */
enum { LARGEST_BLOCK = 63 };
enum { ALL_RESOURCES, LINKS, STATUS, COLLECTION, PROPERTY };

static const char STARTED[] = "dpe-bridge: started";

/* A request, read whole: nothing of it is needed from the message buffer when the answer is written. */
typedef struct request {
  dpe_header header;
  uint8_t resource; /* ALL_RESOURCES: none of them */
  uint8_t property;
  int32_t observe;
  int32_t content_format;
  int32_t accept;
  uint32_t block;
  uint8_t szx;
  uint8_t has_block;
  uint8_t is_bad_option;
  const uint8_t *payload;
  uint16_t payload_length;
} request;

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
  bridge->awaited = IDLE;
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

static void send(dpe_bridge *bridge, uint16_t length, int is_text) {
  dpe_encoder_init(&bridge->encoder, bridge->config.message, length, is_text);
  bridge->is_sending = 1;
}

int dpe_bridge_log(dpe_bridge *bridge, const char *text, size_t length) {
  uint16_t taken = bridge->config.message_size;
  if (text == NULL || length == 0) return DPE_ERROR_ARGUMENT;
  if (bridge->is_sending != 0 || dpe_decoder_is_within(&bridge->decoder) != 0) return DPE_ERROR_BUSY;
  if (length < taken) taken = (uint16_t)length;
  for (uint16_t index = 0; index < taken; index++) bridge->config.message[index] = (uint8_t)text[index];
  send(bridge, taken, 1);
  return taken;
}

/* --- Requests --- */

/* Puts the segments of the path after one another, each with a slash before it. In place: an option's header is at least
 * a byte, and what is read is never behind what is written. */
static void join_path(request *read, uint8_t *path, uint16_t *length, const dpe_options *options) {
  path[(*length)++] = '/';
  for (uint16_t index = 0; index < options->value_length; index++) {
    uint8_t byte = options->value[index];
    /* A slash within a segment would make two different paths the same. */
    if (byte == '/') read->is_bad_option = 1;
    path[(*length)++] = byte;
  }
}

static void find_resource(const dpe_bridge *bridge, request *read, const uint8_t *path, uint16_t length) {
  read->resource = ALL_RESOURCES;
  if (dpe_equals(path, length, "/.well-known/core")) read->resource = LINKS;
  else if (dpe_equals(path, length, "/dpe")) read->resource = STATUS;
  else if (dpe_equals(path, length, "/p")) read->resource = COLLECTION;
  if (length <= 3 || path[0] != '/' || path[1] != 'p' || path[2] != '/') return;
  for (uint8_t index = 0; index < bridge->config.property_count; index++) {
    if (dpe_equals(path + 3, (uint16_t)(length - 3), bridge->config.properties[index].name) == 0) continue;
    read->resource = PROPERTY;
    read->property = index;
    return;
  }
}

static int read_options(const dpe_bridge *bridge, request *read, dpe_options *options) {
  uint8_t *path = bridge->config.message + options->position;
  uint16_t path_length = 0;
  int more;
  while ((more = dpe_next_option(options)) == 1) {
    int32_t value = dpe_option_uint(options);
    switch (options->number) {
      case DPE_OPTION_URI_HOST:
      case DPE_OPTION_URI_PORT:
      case DPE_OPTION_URI_QUERY: break;
      case DPE_OPTION_OBSERVE: read->observe = value; break;
      case DPE_OPTION_URI_PATH: join_path(read, path, &path_length, options); break;
      case DPE_OPTION_CONTENT_FORMAT: read->content_format = value; break;
      case DPE_OPTION_ACCEPT: read->accept = value; break;
      case DPE_OPTION_BLOCK2:
        read->has_block = 1;
        read->szx = (uint8_t)(value & 7);
        read->block = (uint32_t)value >> 4;
        if (read->szx > LARGEST_SZX || read->block > LARGEST_BLOCK) read->is_bad_option = 1;
        break;
      default:
        /* RFC 7252 §5.4.1: odd numbers are critical. */
        if ((options->number & 1u) != 0) read->is_bad_option = 1;
    }
  }
  if (more != 0) return more;
  read->payload = options->value;
  read->payload_length = options->value_length;
  find_resource(bridge, read, path, path_length);
  return 0;
}

/* --- Answers --- */

static void send_header(dpe_bridge *bridge, const dpe_header *header) {
  dpe_writer writer;
  dpe_write_header(&writer, bridge->config.message, bridge->config.message_size, header);
  send(bridge, writer.length, 0);
}

/* Makes a request's header its response's: piggybacked, or Non-confirmable as the request was. */
static void turn_around(dpe_bridge *bridge, dpe_header *header, uint8_t code) {
  header->code = code;
  if (header->type == DPE_CONFIRMABLE) header->type = DPE_ACKNOWLEDGEMENT;
  else header->message_id = bridge->message_id++;
}

static void answer_empty(dpe_bridge *bridge, request *read, uint8_t code) {
  turn_around(bridge, &read->header, code);
  send_header(bridge, &read->header);
}

static uint32_t block_size_of(const request *read) {
  return (uint32_t)SMALLEST_BLOCK << read->szx;
}

/* Before a representation is put: behind the room for header and options. */
static void open_window(const dpe_bridge *bridge, request *read, dpe_window *window) {
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

/* Sends header, options and what the window took of a representation. */
static void send_window(dpe_bridge *bridge, const request *read, dpe_window *window, int32_t format, int is_observed) {
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
  send(bridge, writer.length, 0);
}

static int value_of(const dpe_property *property, dpe_value *value) {
  value->number = 0;
  value->text = "";
  value->length = 0;
  return property->get(property->context, value);
}

/* The value as an integer that differs where the value differs; of a text its FCS. */
static int32_t mark_of(const dpe_property *property, const dpe_value *value) {
  uint16_t fcs = DPE_FCS_START;
  if (property->type != DPE_TYPE_TEXT) return value->number;
  for (uint16_t index = 0; index < value->length; index++) fcs = dpe_fcs(fcs, (uint8_t)value->text[index]);
  return (int32_t)(fcs | ((uint32_t)(value->length & 0x7fffu) << 16));
}

static int32_t put_representation(const dpe_bridge *bridge, const request *read, uint32_t named, dpe_window *window) {
  const dpe_property *properties = bridge->config.properties;
  uint8_t count = 0;
  if (read->resource == LINKS) {
    dpe_put_links(window, properties, bridge->config.property_count);
    return DPE_LINK_FORMAT;
  }
  if (read->resource == STATUS) {
    for (uint8_t index = 0; index < bridge->config.property_count; index++)
      count = (uint8_t)(count + ((bridge->config.states[index].flags & OBSERVED) != 0));
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
    if ((named >> index & 1u) == 0 || value_of(&properties[index], &value) != 0) continue;
    dpe_put_record(window, &properties[index], &value);
  }
  dpe_put(window, 0xff);
  return DPE_SENML_CBOR;
}

/* One observer for each property: the gateway. Its newest request takes the place of the one before. */
static void keep_observer(dpe_bridge *bridge, const request *read, int32_t mark) {
  dpe_property_state *state = &bridge->config.states[read->property];
  if (bridge->awaited == read->property) bridge->awaited = IDLE;
  state->flags = OBSERVED;
  state->asked_ms = bridge->now_ms;
  state->sent = mark;
  state->token_length = read->header.token_length;
  for (uint8_t index = 0; index < DPE_TOKEN_SIZE; index++) state->token[index] = read->header.token[index];
}

static void put_property(dpe_window *window, const dpe_property *property, const dpe_value *value) {
  dpe_put_cbor_head(window, 4, 1);
  dpe_put_record(window, property, value);
}

static void answer_content(dpe_bridge *bridge, request *read, uint32_t named) {
  dpe_window window;
  int32_t format = DPE_SENML_CBOR;
  int is_observed = 0;
  open_window(bridge, read, &window);
  if (read->resource == PROPERTY) {
    const dpe_property *property = &bridge->config.properties[read->property];
    dpe_value value;
    if (value_of(property, &value) != 0) {
      answer_empty(bridge, read, DPE_UNAVAILABLE);
      return;
    }
    if (read->observe == 1) bridge->config.states[read->property].flags = 0;
    if (read->observe == 0 && (property->flags & DPE_OBSERVABLE) != 0) {
      is_observed = 1;
      keep_observer(bridge, read, mark_of(property, &value));
    }
    put_property(&window, property, &value);
  } else {
    format = put_representation(bridge, read, named, &window);
  }
  if (window.from > 0 && window.from >= window.total) {
    answer_empty(bridge, read, DPE_BAD_OPTION);
    return;
  }
  turn_around(bridge, &read->header, DPE_CONTENT);
  send_window(bridge, read, &window, format, is_observed);
}

static uint8_t write_property(const dpe_bridge *bridge, const request *read) {
  const dpe_property *property = &bridge->config.properties[read->property];
  dpe_value value;
  if ((property->flags & DPE_WRITABLE) == 0) return DPE_METHOD_NOT_ALLOWED;
  if (read->content_format != DPE_SENML_CBOR) return DPE_UNSUPPORTED_FORMAT;
  if (dpe_read_value(read->payload, read->payload_length, property, &value) != 0) return DPE_BAD_REQUEST;
  if (property->type == DPE_TYPE_NUMBER && (value.number < property->minimum || value.number > property->maximum))
    return DPE_BAD_REQUEST;
  if (property->type == DPE_TYPE_TEXT && value.length > property->maximum) return DPE_BAD_REQUEST;
  return property->set(property->context, &value) == 0 ? DPE_CHANGED : DPE_FORBIDDEN;
}

/* A setter is not called again for a duplicate (RFC 7252 §4.5); what only reads may be answered anew. */
static void answer_write(dpe_bridge *bridge, request *read, uint16_t fcs) {
  dpe_recent_write *recent = &bridge->writes[bridge->next_write];
  for (uint8_t index = 0; index < DPE_RECENT_WRITES; index++) {
    const dpe_recent_write *known = &bridge->writes[index];
    if (known->code == 0 || known->message_id != read->header.message_id || known->fcs != fcs) continue;
    answer_empty(bridge, read, known->code);
    return;
  }
  recent->code = write_property(bridge, read);
  recent->message_id = read->header.message_id;
  recent->fcs = fcs;
  bridge->next_write = (uint8_t)((bridge->next_write + 1) % DPE_RECENT_WRITES);
  answer_empty(bridge, read, recent->code);
}

static void answer(dpe_bridge *bridge, request *read, uint16_t fcs) {
  uint8_t code = read->header.code;
  uint32_t named = 0xffffffffu;
  int32_t format = read->resource == LINKS ? DPE_LINK_FORMAT : read->resource == STATUS ? DPE_CBOR : DPE_SENML_CBOR;
  if (read->is_bad_option != 0) {
    answer_empty(bridge, read, DPE_BAD_OPTION);
  } else if (read->resource == ALL_RESOURCES) {
    answer_empty(bridge, read, DPE_NOT_FOUND);
  } else if (code == DPE_PUT && read->resource == PROPERTY) {
    answer_write(bridge, read, fcs);
  } else if (code != DPE_GET && !(code == DPE_FETCH && read->resource == COLLECTION)) {
    answer_empty(bridge, read, DPE_METHOD_NOT_ALLOWED);
  } else if (read->accept != DPE_NO_UINT && read->accept != format) {
    answer_empty(bridge, read, DPE_NOT_ACCEPTABLE);
  } else if (code == DPE_GET) {
    answer_content(bridge, read, named);
  } else if (read->content_format != DPE_SENML_ETCH_CBOR) {
    answer_empty(bridge, read, DPE_UNSUPPORTED_FORMAT);
  } else if (dpe_read_names(read->payload, read->payload_length, bridge->config.properties, bridge->config.property_count, &named) != 0) {
    answer_empty(bridge, read, DPE_BAD_REQUEST);
  } else {
    answer_content(bridge, read, named);
  }
}

static void handle_message(dpe_bridge *bridge, uint16_t length, uint16_t fcs) {
  request read = {0};
  dpe_options options;
  int is_request;
  read.observe = DPE_NO_UINT;
  read.content_format = DPE_NO_UINT;
  read.accept = DPE_NO_UINT;
  read.szx = LARGEST_SZX;
  if (dpe_read_header(bridge->config.message, length, &read.header, &options) != 0) {
    bridge->dropped++;
    return;
  }
  if (read.header.type == DPE_ACKNOWLEDGEMENT || read.header.type == DPE_RESET) {
    if (bridge->awaited == IDLE || read.header.message_id != bridge->awaited_id) return;
    if (read.header.type == DPE_RESET) bridge->config.states[bridge->awaited].flags = 0;
    bridge->awaited = IDLE;
    return;
  }
  is_request = read.header.code != 0 && read.header.code >> 5 == 0;
  if (is_request != 0 && read_options(bridge, &read, &options) == 0) {
    answer(bridge, &read, fcs);
  } else if (read.header.type == DPE_CONFIRMABLE) {
    /* A ping, a malformed message, or a response that nobody asked for (RFC 7252 §4.2, §4.3). */
    dpe_header reset = {0};
    reset.type = DPE_RESET;
    reset.message_id = read.header.message_id;
    send_header(bridge, &reset);
  }
}

/* --- Observation (RFC 7641) --- */

static int has_changed(const dpe_property *property, const dpe_property_state *state, int32_t mark) {
  int64_t moved = (int64_t)mark - state->sent;
  if (property->type != DPE_TYPE_NUMBER) return moved != 0;
  return moved > property->dead_band || -moved > property->dead_band;
}

static void notify(dpe_bridge *bridge, uint8_t index, const dpe_value *value) {
  const dpe_property *property = &bridge->config.properties[index];
  dpe_property_state *state = &bridge->config.states[index];
  request none = {0};
  dpe_window window;
  none.szx = LARGEST_SZX;
  none.header.type = DPE_CONFIRMABLE;
  none.header.code = DPE_CONTENT;
  none.header.message_id = bridge->message_id++;
  none.header.token_length = state->token_length;
  for (uint8_t at = 0; at < DPE_TOKEN_SIZE; at++) none.header.token[at] = state->token[at];
  bridge->observe_sequence = (bridge->observe_sequence + 1) & 0xffffffu;
  state->sent = mark_of(property, value);
  bridge->awaited = index;
  bridge->awaited_id = none.header.message_id;
  bridge->awaited_since_ms = bridge->now_ms;
  bridge->attempts++;
  open_window(bridge, &none, &window);
  put_property(&window, property, value);
  send_window(bridge, &none, &window, DPE_SENML_CBOR, 1);
}

static void forget_observer(dpe_bridge *bridge) {
  for (uint8_t index = 0; index < bridge->config.property_count; index++) bridge->config.states[index].flags = 0;
  bridge->awaited = IDLE;
}

/* Sends again what was not acknowledged in time, or gives the observer up. */
static void handle_awaited(dpe_bridge *bridge) {
  uint32_t timeout = (uint32_t)ACK_TIMEOUT_MS << (bridge->attempts - 1);
  dpe_value value;
  if (bridge->now_ms - bridge->awaited_since_ms < timeout) return;
  if (bridge->attempts >= MAX_ATTEMPTS) {
    forget_observer(bridge);
  } else if (value_of(&bridge->config.properties[bridge->awaited], &value) == 0) {
    notify(bridge, bridge->awaited, &value);
  } else {
    bridge->awaited = IDLE;
  }
}

/* Notifies the next property that has moved, in turn, so that a lively one does not hide the others. */
static void notify_next(dpe_bridge *bridge) {
  for (uint8_t step = 0; step < bridge->config.property_count; step++) {
    uint8_t index = bridge->next_property;
    const dpe_property *property = &bridge->config.properties[index];
    dpe_property_state *state = &bridge->config.states[index];
    dpe_value value;
    bridge->next_property = (uint8_t)((index + 1) % bridge->config.property_count);
    if ((state->flags & OBSERVED) == 0) continue;
    if (bridge->now_ms - state->asked_ms < property->min_interval_ms) continue;
    state->asked_ms = bridge->now_ms;
    if (value_of(property, &value) != 0 || has_changed(property, state, mark_of(property, &value)) == 0) continue;
    bridge->attempts = 0;
    notify(bridge, index, &value);
    return;
  }
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
      handle_message(bridge, (uint16_t)length, (uint16_t)(sent[0] | (sent[1] << 8)));
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
  } else if (bridge->awaited != IDLE) {
    handle_awaited(bridge);
  } else if (bridge->config.property_count > 0) {
    notify_next(bridge);
  }
  return bridge->is_sending;
}
