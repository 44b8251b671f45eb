/*
 * dpe_bridge: a microcontroller's properties for a DPE gateway, over a serial wire.
 *
 * CoAP (RFC 7252) in slipmux frames (draft-bormann-t2trg-slipmux), values as SenML-CBOR (RFC 8428). Nothing is allocated,
 * nothing recurses and there are no globals: the caller owns every byte, and a bridge is a struct.
 *
 *   interrupt handler   dpe_bridge_receive() for each byte that arrives
 *   main loop           dpe_bridge_poll() as often as it comes around, then dpe_bridge_transmit() while the UART takes bytes
 *
 * Resources:
 *
 *   GET /.well-known/core           link format; `obs` where a property may be observed, if="core.a" where it may be set
 *   GET, FETCH /p                   all properties, or those named by a SenML-ETCH pack (RFC 8790)
 *   GET /p/NAME, Observe            one property
 *   PUT /p/NAME                     sets a writable one: a SenML-CBOR pack of one record
 *   GET /dpe                        CBOR array: format 1, ms since init, observations held, frames dropped, bytes lost
 */
#ifndef DPE_BRIDGE_H
#define DPE_BRIDGE_H

#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

/* Errors: all below zero. */
#define DPE_ERROR_ARGUMENT (-1) /* the caller's: a null pointer, a size out of range */
#define DPE_ERROR_BUSY (-2)     /* the message buffer is in use: try again after some bytes were transmitted */
#define DPE_ERROR_NO_VALUE (-3) /* a getter's: there is no value at present */
#define DPE_ERROR_REFUSED (-4)  /* a setter's: not now, or not this value */
#define DPE_ERROR_FORMAT (-5)   /* malformed bytes */
#define DPE_ERROR_SPACE (-6)    /* it does not fit in the buffer */

/* Of a property's value. */
#define DPE_TYPE_NUMBER 0 /* value.number times ten to the power of property.exponent */
#define DPE_TYPE_BOOLEAN 1 /* value.number, 0 or 1 */
#define DPE_TYPE_TEXT 2   /* value.text, value.length bytes of UTF-8 */

/* property.flags */
#define DPE_OBSERVABLE 1u
#define DPE_WRITABLE 2u

#define DPE_MAX_PROPERTIES 32
#define DPE_MIN_MESSAGE_SIZE 96
#define DPE_TOKEN_SIZE 8
#define DPE_RECENT_WRITES 4

typedef struct dpe_value {
  int32_t number;
  const char *text; /* as a getter leaves it: valid until the next dpe_bridge_poll. As a setter finds it: during the call. */
  uint16_t length;
} dpe_value;

typedef struct dpe_property {
  const char *name;   /* as SenML allows: letters, digits, - : . / _ and first a letter or digit */
  const char *unit;   /* RFC 8428 §12.1, such as "Cel" or "V"; NULL for none */
  uint8_t type;       /* DPE_TYPE_* */
  int8_t exponent;    /* -9 to 9: a temperature in hundredths has -2 */
  uint8_t flags;      /* DPE_OBSERVABLE, DPE_WRITABLE */
  uint32_t min_interval_ms; /* between two notifications; also how often the getter is asked while it is observed */
  int32_t dead_band;  /* a number that moved by no more than this is not notified; in units of the last digit */
  int32_t minimum;    /* of what may be set, in units of the last digit; not used for text and booleans */
  int32_t maximum;    /* as minimum; for text its most bytes */
  /* Called from dpe_bridge_poll only. Fills value, returns 0; DPE_ERROR_NO_VALUE when there is none. */
  int (*get)(void *context, dpe_value *value);
  /* Called from dpe_bridge_poll only, with a value within bounds, once for each request. 0, or DPE_ERROR_REFUSED. */
  int (*set)(void *context, const dpe_value *value);
  void *context;
} dpe_property;

/* What the bridge keeps for each property. */
typedef struct dpe_property_state {
  uint32_t asked_ms;
  int32_t sent;       /* the value last sent to the observer; of a text its FCS */
  uint8_t token[DPE_TOKEN_SIZE];
  uint8_t token_length;
  uint8_t flags;
} dpe_property_state;

typedef struct dpe_config {
  const dpe_property *properties; /* property_count of them, constant for as long as the bridge runs */
  dpe_property_state *states;     /* as many */
  uint8_t property_count;         /* at most DPE_MAX_PROPERTIES */
  uint8_t *message;               /* holds one message, received or to be sent */
  uint16_t message_size;          /* at least DPE_MIN_MESSAGE_SIZE; longer requests are dropped, longer answers come in blocks */
  uint8_t *ring;                  /* what the interrupt handler received until the main loop comes around */
  uint16_t ring_size;             /* a power of two, 16 to 32768 */
} dpe_config;

/* The decoder of slipmux frames. */
typedef struct dpe_decoder {
  uint16_t length;
  uint16_t fcs;
  uint8_t state;
} dpe_decoder;

/* The encoder of one slipmux frame. */
typedef struct dpe_encoder {
  const uint8_t *bytes;
  uint16_t length;
  uint16_t position;
  uint16_t fcs;
  uint8_t state;
  uint8_t is_text;
} dpe_encoder;

typedef struct dpe_recent_write {
  uint16_t message_id;
  uint16_t fcs;
  uint8_t code; /* of the response; 0: not in use */
} dpe_recent_write;

/* Fields are the library's. */
typedef struct dpe_bridge {
  dpe_config config;
  dpe_decoder decoder;
  dpe_encoder encoder;
  volatile uint16_t ring_head; /* written by dpe_bridge_receive */
  volatile uint16_t ring_tail; /* written by dpe_bridge_poll */
  volatile uint8_t is_sending; /* set by dpe_bridge_poll, cleared by dpe_bridge_transmit */
  volatile uint16_t lost;      /* bytes that found the ring full */
  uint16_t dropped;            /* frames that were begun and not good */
  uint16_t message_id;
  uint32_t now_ms;
  uint32_t started_ms;
  uint32_t heard_ms;
  uint32_t observe_sequence;
  uint32_t awaited_since_ms;
  uint16_t awaited_id;
  uint8_t awaited; /* property whose notification awaits its Acknowledgement; DPE_MAX_PROPERTIES for none */
  uint8_t attempts;
  uint8_t next_property;
  uint8_t next_write;
  uint8_t has_started;
  dpe_recent_write writes[DPE_RECENT_WRITES];
} dpe_bridge;

/* Checks and takes the configuration; all of its buffers stay the bridge's. `now_ms` may start anywhere and wraps around.
 * 0, or DPE_ERROR_ARGUMENT. */
int dpe_bridge_init(dpe_bridge *bridge, const dpe_config *config, uint32_t now_ms);

/* Takes a byte from the wire. May be called from an interrupt handler while the main loop is in any other function. */
void dpe_bridge_receive(dpe_bridge *bridge, uint8_t byte);

/* Does what there is to do: answers a request, notifies an observed property. Calls getters and setters.
 * 1 when there are bytes to transmit, else 0. */
int dpe_bridge_poll(dpe_bridge *bridge, uint32_t now_ms);

/* The next byte for the wire. 1 and the byte, or 0 when there is none. From the main loop or one interrupt handler. */
int dpe_bridge_transmit(dpe_bridge *bridge, uint8_t *byte);

/* Sends a line of text to the gateway's log, as far as it fits in the message buffer. From the main loop.
 * The bytes taken, DPE_ERROR_BUSY, or DPE_ERROR_ARGUMENT. */
int dpe_bridge_log(dpe_bridge *bridge, const char *text, size_t length);

/* --- The wire by itself, for those who bring their own server --- */

/* FCS-16 (CRC-16/X.25): start with DPE_FCS_START, send the complement, low byte first. */
#define DPE_FCS_START 0xffffu
#define DPE_FCS_GOOD 0xf0b8u
uint16_t dpe_fcs(uint16_t fcs, uint8_t byte);

void dpe_decoder_init(dpe_decoder *decoder);

/* Takes a byte. The length of a CoAP message that is now whole in `message`, 0 when there is none yet, DPE_ERROR_FORMAT
 * when a frame was dropped. Text frames and IP packets are passed over. */
int dpe_decoder_push(dpe_decoder *decoder, uint8_t *message, uint16_t size, uint8_t byte);

/* Whether bytes of a message are in the buffer. */
int dpe_decoder_is_within(const dpe_decoder *decoder);

/* Begins a frame; `bytes` must stay until the encoder has ended. `is_text`: a diagnostic frame, without FCS. */
void dpe_encoder_init(dpe_encoder *encoder, const uint8_t *bytes, uint16_t length, int is_text);

/* 1 and the next byte of the frame, or 0 after its last. */
int dpe_encoder_next(dpe_encoder *encoder, uint8_t *byte);

#ifdef __cplusplus
}
#endif
#endif
