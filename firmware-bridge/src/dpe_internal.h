/* Shared between the library's files; no part of its interface. */
#ifndef DPE_INTERNAL_H
#define DPE_INTERNAL_H

#include "dpe_bridge.h"

/* --- CoAP messages (RFC 7252 §3) --- */

enum { DPE_CONFIRMABLE, DPE_NON_CONFIRMABLE, DPE_ACKNOWLEDGEMENT, DPE_RESET };
enum { DPE_GET = 1, DPE_POST = 2, DPE_PUT = 3, DPE_FETCH = 5 };
enum {
  DPE_CHANGED = 0x44,
  DPE_CONTENT = 0x45,
  DPE_BAD_REQUEST = 0x80,
  DPE_BAD_OPTION = 0x82,
  DPE_FORBIDDEN = 0x83,
  DPE_NOT_FOUND = 0x84,
  DPE_METHOD_NOT_ALLOWED = 0x85,
  DPE_NOT_ACCEPTABLE = 0x86,
  DPE_UNSUPPORTED_FORMAT = 0x8f,
  DPE_UNAVAILABLE = 0xa3
};
enum {
  DPE_OPTION_URI_HOST = 3,
  DPE_OPTION_ETAG = 4,
  DPE_OPTION_OBSERVE = 6,
  DPE_OPTION_URI_PORT = 7,
  DPE_OPTION_URI_PATH = 11,
  DPE_OPTION_CONTENT_FORMAT = 12,
  DPE_OPTION_URI_QUERY = 15,
  DPE_OPTION_ACCEPT = 17,
  DPE_OPTION_BLOCK2 = 23
};
enum { DPE_LINK_FORMAT = 40, DPE_CBOR = 60, DPE_SENML_CBOR = 112, DPE_SENML_ETCH_CBOR = 322 };
enum { DPE_NO_UINT = -1 };

typedef struct dpe_header {
  uint8_t type;
  uint8_t code;
  uint16_t message_id;
  uint8_t token[DPE_TOKEN_SIZE];
  uint8_t token_length;
} dpe_header;

/* Reads the options of a message, in their order. */
typedef struct dpe_options {
  const uint8_t *message;
  uint16_t length;
  uint16_t position; /* of what comes next: an option, the payload marker or the end */
  uint32_t number;
  const uint8_t *value;
  uint16_t value_length;
} dpe_options;

/* Reads header and token, and leaves the options at the first. 0 or DPE_ERROR_FORMAT. */
int dpe_read_header(const uint8_t *message, uint16_t length, dpe_header *header, dpe_options *options);

/* 1 with the next option, 0 at the payload or end, DPE_ERROR_FORMAT. After 0, `value` is the payload. */
int dpe_next_option(dpe_options *options);

/* An option's value as a number; DPE_NO_UINT when it is longer than 4 bytes or above 2^31-1. */
int32_t dpe_option_uint(const dpe_options *options);

/* Writes a message; what does not fit is not written. */
typedef struct dpe_writer {
  uint8_t *bytes;
  uint16_t size;
  uint16_t length;
  uint16_t number;
} dpe_writer;

void dpe_write_header(dpe_writer *writer, uint8_t *bytes, uint16_t size, const dpe_header *header);
void dpe_write_option(dpe_writer *writer, uint16_t number, const uint8_t *value, uint16_t length);
void dpe_write_uint_option(dpe_writer *writer, uint16_t number, uint32_t value);
void dpe_write_payload(dpe_writer *writer, const uint8_t *payload, uint16_t length);

/* --- Representations, written through a window so that a block of a long one needs no more than its own bytes --- */

typedef struct dpe_window {
  uint8_t *bytes;
  uint32_t from;
  uint32_t size;
  uint32_t total; /* bytes put so far, within the window or not */
  uint16_t fcs;   /* over all of them: the ETag */
} dpe_window;

void dpe_window_init(dpe_window *window, uint8_t *bytes, uint32_t from, uint32_t size);
void dpe_put(dpe_window *window, uint8_t byte);
void dpe_put_text(dpe_window *window, const char *text);
void dpe_put_cbor_head(dpe_window *window, uint8_t major, uint32_t value);
/* One record: name, unit and value. */
void dpe_put_record(dpe_window *window, const dpe_property *property, const dpe_value *value);
void dpe_put_links(dpe_window *window, const dpe_property *properties, uint8_t count);

/* --- Requests' payloads --- */

/* The value in a SenML-CBOR pack of one record, as this property takes it. 0, or DPE_ERROR_FORMAT for anything else. */
int dpe_read_value(const uint8_t *pack, uint16_t length, const dpe_property *property, dpe_value *value);

/* The properties that a SenML-ETCH-CBOR pack names, a bit each. 0 or DPE_ERROR_FORMAT. */
int dpe_read_names(const uint8_t *pack, uint16_t length, const dpe_property *properties, uint8_t count, uint32_t *named);

/* --- Requests, and messages that carry a representation --- */

enum { DPE_ALL_RESOURCES, DPE_LINKS, DPE_STATUS, DPE_COLLECTION, DPE_PROPERTY };
enum { DPE_LARGEST_SZX = 6 };

/* A request, read whole: nothing of it is needed from the message buffer when the answer is written. */
typedef struct dpe_request {
  dpe_header header;
  uint8_t resource; /* DPE_ALL_RESOURCES: none of them */
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
} dpe_request;

/* Answers the message in the buffer; `fcs` tells it from others with its Message ID. */
void dpe_handle_message(dpe_bridge *bridge, uint16_t length, uint16_t fcs);

/* Begins to send what stands in the message buffer. */
void dpe_send(dpe_bridge *bridge, uint16_t length, int is_text);
/* Sends a message without options and payload. */
void dpe_send_header(dpe_bridge *bridge, const dpe_header *header);

/* 0 with the property's value, as long as its getter has one. */
int dpe_value_of(const dpe_property *property, dpe_value *value);
/* The value as an integer that differs where the value differs; of a text its FCS. */
int32_t dpe_mark_of(const dpe_property *property, const dpe_value *value);

/* Before a representation is put: behind the room for header and options. */
void dpe_open_window(const dpe_bridge *bridge, dpe_request *read, dpe_window *window);
void dpe_put_property(dpe_window *window, const dpe_property *property, const dpe_value *value);
/* Of any other resource than a property; `named` has a bit for each property of it that is wanted. Its Content-Format. */
int32_t dpe_put_representation(const dpe_bridge *bridge, const dpe_request *read, uint32_t named, dpe_window *window);
/* Sends header, options and what the window took of a representation. */
void dpe_send_window(dpe_bridge *bridge, const dpe_request *read, dpe_window *window, int32_t format, int is_observed);

/* --- Observation (RFC 7641) --- */

enum { DPE_OBSERVED = 1 };
/* No notification awaits its acknowledgement. */
enum { DPE_IDLE = DPE_MAX_PROPERTIES };

/* One observer for each property: the gateway. Its newest request takes the place of the one before. */
void dpe_keep_observer(dpe_bridge *bridge, const dpe_request *read, int32_t mark);
/* Sends again what was not acknowledged in time, or gives the observer up. */
void dpe_handle_awaited(dpe_bridge *bridge);
/* Notifies the next property that has moved, in turn, so that a lively one does not hide the others. */
void dpe_notify_next(dpe_bridge *bridge);

uint16_t dpe_text_length(const char *text);
int dpe_equals(const uint8_t *bytes, uint16_t length, const char *text);

#endif
