/* Requests: each is read whole before its answer is written over it. */
#include "dpe_internal.h"

/* Where a block begins at most, whatever its size: nothing here is longer. */
enum { REACH = 0x10000 };

/* Puts the segments of the path after one another, each with a slash before it. In place: an option's header is at least
 * a byte, and what is read is never behind what is written. */
static void join_path(dpe_request *read, uint8_t *path, uint16_t *length, const dpe_options *options) {
  path[(*length)++] = '/';
  for (uint16_t index = 0; index < options->value_length; index++) {
    uint8_t byte = options->value[index];
    /* A slash within a segment would make two different paths the same. */
    if (byte == '/') read->is_bad_option = 1;
    path[(*length)++] = byte;
  }
}

static void find_resource(const dpe_bridge *bridge, dpe_request *read, const uint8_t *path, uint16_t length) {
  read->resource = DPE_ALL_RESOURCES;
  if (dpe_equals(path, length, "/.well-known/core")) read->resource = DPE_LINKS;
  else if (dpe_equals(path, length, "/dpe")) read->resource = DPE_STATUS;
  else if (dpe_equals(path, length, "/p")) read->resource = DPE_COLLECTION;
  if (length <= 3 || path[0] != '/' || path[1] != 'p' || path[2] != '/') return;
  for (uint8_t index = 0; index < bridge->config.property_count; index++) {
    if (dpe_equals(path + 3, (uint16_t)(length - 3), bridge->config.properties[index].name) == 0) continue;
    read->resource = DPE_PROPERTY;
    read->property = index;
    return;
  }
}

static int read_options(const dpe_bridge *bridge, dpe_request *read, dpe_options *options) {
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
        if (read->szx > DPE_LARGEST_SZX || read->block >= (uint32_t)REACH >> (read->szx + 4)) read->is_bad_option = 1;
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

/* Makes a request's header its response's: piggybacked, or Non-confirmable as the request was. */
static void turn_around(dpe_bridge *bridge, dpe_header *header, uint8_t code) {
  header->code = code;
  if (header->type == DPE_CONFIRMABLE) header->type = DPE_ACKNOWLEDGEMENT;
  else header->message_id = bridge->message_id++;
}

static void answer_empty(dpe_bridge *bridge, dpe_request *read, uint8_t code) {
  turn_around(bridge, &read->header, code);
  dpe_send_header(bridge, &read->header);
}

static void answer_content(dpe_bridge *bridge, dpe_request *read, uint32_t named) {
  dpe_window window;
  int32_t format = DPE_SENML_CBOR;
  int is_observed = 0;
  dpe_open_window(bridge, read, &window);
  if (read->resource == DPE_PROPERTY) {
    const dpe_property *property = &bridge->config.properties[read->property];
    dpe_value value;
    if (dpe_value_of(property, &value) != 0) {
      answer_empty(bridge, read, DPE_UNAVAILABLE);
      return;
    }
    if (read->observe == 1) bridge->config.states[read->property].flags = 0;
    if (read->observe == 0 && (property->flags & DPE_OBSERVABLE) != 0) {
      is_observed = 1;
      dpe_keep_observer(bridge, read, dpe_mark_of(property, &value));
    }
    dpe_put_property(&window, property, &value);
  } else {
    format = dpe_put_representation(bridge, read, named, &window);
  }
  if (window.from > 0 && window.from >= window.total) {
    answer_empty(bridge, read, DPE_BAD_OPTION);
    return;
  }
  turn_around(bridge, &read->header, DPE_CONTENT);
  dpe_send_window(bridge, read, &window, format, is_observed);
}

static uint8_t write_property(const dpe_bridge *bridge, const dpe_request *read) {
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
static void answer_write(dpe_bridge *bridge, dpe_request *read, uint16_t fcs) {
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

static void answer(dpe_bridge *bridge, dpe_request *read, uint16_t fcs) {
  uint8_t code = read->header.code;
  uint32_t named = 0xffffffffu;
  int32_t format = read->resource == DPE_LINKS ? DPE_LINK_FORMAT : read->resource == DPE_STATUS ? DPE_CBOR : DPE_SENML_CBOR;
  if (read->is_bad_option != 0) {
    answer_empty(bridge, read, DPE_BAD_OPTION);
  } else if (read->resource == DPE_ALL_RESOURCES) {
    answer_empty(bridge, read, DPE_NOT_FOUND);
  } else if (code == DPE_PUT && read->resource == DPE_PROPERTY) {
    answer_write(bridge, read, fcs);
  } else if (code != DPE_GET && !(code == DPE_FETCH && read->resource == DPE_COLLECTION)) {
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

void dpe_handle_message(dpe_bridge *bridge, uint16_t length, uint16_t fcs) {
  dpe_request read = {0};
  dpe_options options;
  int is_request;
  read.observe = DPE_NO_UINT;
  read.content_format = DPE_NO_UINT;
  read.accept = DPE_NO_UINT;
  read.szx = DPE_LARGEST_SZX;
  if (dpe_read_header(bridge->config.message, length, &read.header, &options) != 0) {
    bridge->dropped++;
    return;
  }
  if (read.header.type == DPE_ACKNOWLEDGEMENT || read.header.type == DPE_RESET) {
    if (bridge->awaited == DPE_IDLE || read.header.message_id != bridge->awaited_id) return;
    if (read.header.type == DPE_RESET) bridge->config.states[bridge->awaited].flags = 0;
    bridge->awaited = DPE_IDLE;
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
    dpe_send_header(bridge, &reset);
  }
}
