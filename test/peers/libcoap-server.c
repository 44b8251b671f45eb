/*
 * A server on libcoap with the resources of the ETSI CoAP plugtests, which its example server does not have.
 *
 *   libcoap-server PORT [KEY]
 *
 * On 127.0.0.1: PORT by UDP, and by TCP where the library has it; with a KEY the port after it by DTLS, and by TLS.
 * It prints "ready" when it listens. What is observed changes ten times a second.
 */
#include <arpa/inet.h>
#include <coap3/coap.h>
#include <ctype.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define LARGE_BYTES 1280
#define TICK_MS 100
#define TICKS_UNTIL_END 3

static coap_context_t *context;
static uint8_t large[LARGE_BYTES];
static const uint8_t etag[] = {1, 2};

/* What is observed; each counts from its observation on, and `ticks` is negative while nobody does. */
struct observed {
  const char *path;
  int flags;
  coap_resource_t *resource;
  int ticks;
};
static struct observed observed[] = {
    {"obs", COAP_RESOURCE_FLAGS_NOTIFY_CON, NULL, -1},
    {"obs-non", COAP_RESOURCE_FLAGS_NOTIFY_NON_ALWAYS, NULL, -1},
    {"obs-deleted", COAP_RESOURCE_FLAGS_NOTIFY_CON, NULL, -1},
    {"obs-changed", COAP_RESOURCE_FLAGS_NOTIFY_CON, NULL, -1},
    {"obs-expiring", COAP_RESOURCE_FLAGS_NOTIFY_CON, NULL, -1},
};
#define OBSERVED_COUNT (sizeof observed / sizeof observed[0])

static char changed[64] = "state 0";

#define UNUSED(x) ((void)(x))
#define HANDLER(name)                                                                                              \
  static void name(coap_resource_t *resource, coap_session_t *session, const coap_pdu_t *request,                  \
                   const coap_string_t *query, coap_pdu_t *response)
#define IGNORE_REST (UNUSED(resource), UNUSED(session), UNUSED(request), UNUSED(query))

static void add_format(coap_pdu_t *response, unsigned int format) {
  uint8_t value[4];
  coap_add_option(response, COAP_OPTION_CONTENT_FORMAT, coap_encode_var_safe(value, sizeof value, format), value);
}

static void content(coap_pdu_t *response, unsigned int format, const char *text) {
  coap_pdu_set_code(response, COAP_RESPONSE_CODE_CONTENT);
  add_format(response, format);
  coap_add_data(response, strlen(text), (const uint8_t *)text);
}

static void add_text(coap_pdu_t *response, uint16_t number, const char *text) {
  coap_add_option(response, number, strlen(text), (const uint8_t *)text);
}

HANDLER(get_test) {
  IGNORE_REST;
  content(response, COAP_MEDIATYPE_TEXT_PLAIN, "test");
}

HANDLER(change) {
  IGNORE_REST;
  coap_pdu_set_code(response, COAP_RESPONSE_CODE_CHANGED);
}

HANDLER(delete_test) {
  IGNORE_REST;
  coap_pdu_set_code(response, COAP_RESPONSE_CODE_DELETED);
}

HANDLER(create) {
  IGNORE_REST;
  coap_pdu_set_code(response, COAP_RESPONSE_CODE_CREATED);
  add_text(response, COAP_OPTION_LOCATION_PATH, "location1");
  add_text(response, COAP_OPTION_LOCATION_PATH, "location2");
  add_text(response, COAP_OPTION_LOCATION_PATH, "location3");
}

HANDLER(create_by_query) {
  IGNORE_REST;
  coap_pdu_set_code(response, COAP_RESPONSE_CODE_CREATED);
  add_text(response, COAP_OPTION_LOCATION_QUERY, "first=1");
  add_text(response, COAP_OPTION_LOCATION_QUERY, "second=2");
}

HANDLER(get_query) {
  coap_opt_iterator_t iterator;
  coap_opt_filter_t filter;
  coap_opt_t *option;
  char text[256] = "";
  size_t length = 0;
  IGNORE_REST;
  coap_option_filter_clear(&filter);
  coap_option_filter_set(&filter, COAP_OPTION_URI_QUERY);
  coap_option_iterator_init(request, &iterator, &filter);
  while ((option = coap_option_next(&iterator)) != NULL) {
    if (length + 1 + coap_opt_length(option) >= sizeof text) break;
    if (length > 0) text[length++] = ' ';
    memcpy(text + length, coap_opt_value(option), coap_opt_length(option));
    length += coap_opt_length(option);
  }
  text[length] = '\0';
  content(response, COAP_MEDIATYPE_TEXT_PLAIN, text);
}

/* Answered when libcoap puts the request to it a second time. */
HANDLER(get_separate) {
  UNUSED(resource);
  UNUSED(query);
  if (coap_find_async(session, coap_pdu_get_token(request)) == NULL) {
    if (coap_register_async(session, request, COAP_TICKS_PER_SECOND / 5) == NULL)
      coap_pdu_set_code(response, COAP_RESPONSE_CODE_SERVICE_UNAVAILABLE);
    return;
  }
  content(response, COAP_MEDIATYPE_TEXT_PLAIN, "late");
}

HANDLER(get_multi_format) {
  coap_opt_iterator_t iterator;
  coap_opt_t *accept = coap_check_option(request, COAP_OPTION_ACCEPT, &iterator);
  unsigned int format =
      accept == NULL ? COAP_MEDIATYPE_TEXT_PLAIN : coap_decode_var_bytes(coap_opt_value(accept), coap_opt_length(accept));
  IGNORE_REST;
  if (format == COAP_MEDIATYPE_TEXT_PLAIN)
    content(response, format, "text");
  else if (format == COAP_MEDIATYPE_APPLICATION_XML)
    content(response, format, "<text/>");
  else
    coap_pdu_set_code(response, COAP_RESPONSE_CODE_NOT_ACCEPTABLE);
}

static int has_our_etag(const coap_pdu_t *request, uint16_t number) {
  coap_opt_iterator_t iterator;
  coap_opt_filter_t filter;
  coap_opt_t *option;
  coap_option_filter_clear(&filter);
  coap_option_filter_set(&filter, number);
  coap_option_iterator_init(request, &iterator, &filter);
  while ((option = coap_option_next(&iterator)) != NULL)
    if (coap_opt_length(option) == sizeof etag && memcmp(coap_opt_value(option), etag, sizeof etag) == 0) return 1;
  return 0;
}

HANDLER(get_validate) {
  IGNORE_REST;
  coap_pdu_set_code(response,
                    has_our_etag(request, COAP_OPTION_ETAG) ? COAP_RESPONSE_CODE_VALID : COAP_RESPONSE_CODE_CONTENT);
  coap_add_option(response, COAP_OPTION_ETAG, sizeof etag, etag);
  if (coap_pdu_get_code(response) == COAP_RESPONSE_CODE_CONTENT) coap_add_data(response, 5, (const uint8_t *)"valid");
}

HANDLER(put_validate) {
  coap_opt_iterator_t iterator;
  int is_to_match = coap_check_option(request, COAP_OPTION_IF_MATCH, &iterator) != NULL;
  int is_to_be_new = coap_check_option(request, COAP_OPTION_IF_NONE_MATCH, &iterator) != NULL;
  IGNORE_REST;
  coap_pdu_set_code(response, is_to_be_new || (is_to_match && !has_our_etag(request, COAP_OPTION_IF_MATCH))
                                  ? COAP_RESPONSE_CODE_PRECONDITION_FAILED
                                  : COAP_RESPONSE_CODE_CHANGED);
}

HANDLER(get_large) {
  coap_pdu_set_code(response, COAP_RESPONSE_CODE_CONTENT);
  coap_add_data_large_response(resource, session, request, response, query, COAP_MEDIATYPE_TEXT_PLAIN, -1, 0,
                               sizeof large, large, NULL, NULL);
}

HANDLER(create_large) {
  IGNORE_REST;
  coap_pdu_set_code(response, COAP_RESPONSE_CODE_CREATED);
  add_text(response, COAP_OPTION_LOCATION_PATH, "large-create");
  add_text(response, COAP_OPTION_LOCATION_PATH, "1");
}

static void release(coap_session_t *session, void *body) {
  UNUSED(session);
  free(body);
}

HANDLER(post_large) {
  size_t length = 0, offset = 0, total = 0, index;
  const uint8_t *data = NULL;
  uint8_t *body;
  if (!coap_get_data_large(request, &length, &data, &offset, &total) || (body = malloc(length)) == NULL) {
    coap_pdu_set_code(response, COAP_RESPONSE_CODE_BAD_REQUEST);
    return;
  }
  for (index = 0; index < length; index++) body[index] = (uint8_t)toupper(data[index]);
  coap_pdu_set_code(response, COAP_RESPONSE_CODE_CHANGED);
  coap_add_data_large_response(resource, session, request, response, query, COAP_MEDIATYPE_TEXT_PLAIN, -1, 0, length,
                               body, release, body);
}

HANDLER(get_links) {
  IGNORE_REST;
  content(response, COAP_MEDIATYPE_APPLICATION_LINK_FORMAT, "</path/sub1>,</path/sub2>");
}

static struct observed *observed_by(const coap_resource_t *resource) {
  size_t index;
  for (index = 0; index < OBSERVED_COUNT; index++)
    if (observed[index].resource == resource) return &observed[index];
  return NULL;
}

HANDLER(get_observed) {
  coap_opt_iterator_t iterator;
  struct observed *found = observed_by(resource);
  coap_opt_t *observe = coap_check_option(request, COAP_OPTION_OBSERVE, &iterator);
  uint8_t value[4];
  char text[64];
  UNUSED(query);
  if (found == NULL) {
    coap_pdu_set_code(response, COAP_RESPONSE_CODE_NOT_FOUND);
    return;
  }
  if (observe != NULL) {
    /* An observer that has gone is to be noticed while a test waits; libcoap 4.3.1 takes no less than a second. */
    coap_session_set_ack_timeout(session, (coap_fixed_point_t){1, 0});
    coap_session_set_max_retransmit(session, 1);
    if (found->ticks < 0) found->ticks = 0;
  }
  snprintf(text, sizeof text, "state %d", found->ticks < 0 ? 0 : found->ticks);
  coap_pdu_set_code(response, COAP_RESPONSE_CODE_CONTENT);
  add_format(response, COAP_MEDIATYPE_TEXT_PLAIN);
  if (strcmp(found->path, "obs-expiring") == 0)
    coap_add_option(response, COAP_OPTION_MAXAGE, coap_encode_var_safe(value, sizeof value, 1), value);
  if (strcmp(found->path, "obs-changed") == 0) memcpy(text, changed, sizeof text);
  coap_add_data(response, strlen(text), (const uint8_t *)text);
}

HANDLER(put_changed) {
  size_t length = 0;
  const uint8_t *data = NULL;
  UNUSED(session);
  UNUSED(query);
  if (coap_get_data(request, &length, &data) && length < sizeof changed) {
    memcpy(changed, data, length);
    changed[length] = '\0';
  }
  coap_pdu_set_code(response, COAP_RESPONSE_CODE_CHANGED);
  coap_resource_notify_observers(resource, NULL);
}

static coap_resource_t *add(const char *path, int flags, coap_method_handler_t get) {
  coap_resource_t *resource = coap_resource_init(coap_make_str_const(path), flags);
  if (get != NULL) coap_register_handler(resource, COAP_REQUEST_GET, get);
  coap_add_resource(context, resource);
  return resource;
}

static void attribute(coap_resource_t *resource, const char *name, const char *value) {
  coap_add_attr(resource, coap_make_str_const(name), coap_make_str_const(value), 0);
}

static void observe(struct observed *one) {
  one->resource = add(one->path, one->flags, get_observed);
  one->ticks = -1;
  coap_resource_set_get_observable(one->resource, 1);
  if (strcmp(one->path, "obs") == 0) attribute(one->resource, "rt", "\"observe\"");
  if (strcmp(one->path, "obs-changed") == 0) coap_register_handler(one->resource, COAP_REQUEST_PUT, put_changed);
}

static void add_resources(void) {
  coap_resource_t *resource = add("test", 0, get_test);
  size_t index;
  coap_register_handler(resource, COAP_REQUEST_PUT, change);
  coap_register_handler(resource, COAP_REQUEST_POST, create);
  coap_register_handler(resource, COAP_REQUEST_DELETE, delete_test);
  add("seg1/seg2/seg3", 0, get_test);
  add("query", 0, get_query);
  add("separate", 0, get_separate);
  coap_register_handler(add("location", 0, NULL), COAP_REQUEST_POST, create);
  coap_register_handler(add("location-query", 0, NULL), COAP_REQUEST_POST, create_by_query);
  add("multi-format", 0, get_multi_format);
  coap_register_handler(add("validate", 0, get_validate), COAP_REQUEST_PUT, put_validate);
  resource = add("link1", 0, get_test);
  attribute(resource, "rt", "\"Type1 Link\"");
  attribute(resource, "if", "\"If1\"");
  resource = add("link2", 0, get_test);
  attribute(resource, "rt", "\"Type2 Link\"");
  attribute(resource, "if", "\"If2\"");
  attribute(add("link3", 0, get_test), "rt", "\"Type2 Link\"");
  attribute(add("large", 0, get_large), "sz", "1280");
  coap_register_handler(add("large-update", 0, NULL), COAP_REQUEST_PUT, change);
  coap_register_handler(add("large-create", 0, NULL), COAP_REQUEST_POST, create_large);
  coap_register_handler(add("large-post", 0, NULL), COAP_REQUEST_POST, post_large);
  attribute(add("path", 0, get_links), "ct", "40");
  add("path/sub1", 0, get_test);
  add("path/sub2", 0, get_test);
  for (index = 0; index < OBSERVED_COUNT; index++) observe(&observed[index]);
}

/* libcoap removes an observation when what it observes is deleted (4.04), and then it is there anew. */
static void tick(void) {
  size_t index;
  for (index = 0; index < OBSERVED_COUNT; index++) {
    struct observed *one = &observed[index];
    if (one->ticks < 0) continue;
    one->ticks++;
    if (strcmp(one->path, "obs-deleted") == 0 && one->ticks >= TICKS_UNTIL_END) {
      coap_delete_resource(context, one->resource);
      observe(one);
    } else if (strcmp(one->path, "obs-changed") != 0) {
      coap_resource_notify_observers(one->resource, NULL);
    }
  }
}

static void listen_on(unsigned short port, coap_proto_t protocol) {
  coap_address_t address;
  coap_address_init(&address);
  address.size = sizeof address.addr.sin;
  address.addr.sin.sin_family = AF_INET;
  address.addr.sin.sin_port = htons(port);
  address.addr.sin.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  if (coap_new_endpoint(context, &address, protocol) == NULL) {
    fprintf(stderr, "cannot listen on %u\n", port);
    exit(1);
  }
}

int main(int argc, char **argv) {
  unsigned short port;
  coap_tick_t before, now;
  if (argc < 2) return 2;
  port = (unsigned short)atoi(argv[1]);
  memset(large, 'x', sizeof large);
  coap_startup();
  context = coap_new_context(NULL);
  if (context == NULL) return 1;
  coap_context_set_block_mode(context, COAP_BLOCK_USE_LIBCOAP | COAP_BLOCK_SINGLE_BODY);
  add_resources();
  listen_on(port, COAP_PROTO_UDP);
  if (coap_tcp_is_supported()) listen_on(port, COAP_PROTO_TCP);
  if (argc > 2) {
    coap_dtls_spsk_t psk;
    memset(&psk, 0, sizeof psk);
    psk.version = COAP_DTLS_SPSK_SETUP_VERSION;
    psk.psk_info.key.s = (const uint8_t *)argv[2];
    psk.psk_info.key.length = strlen(argv[2]);
    if (!coap_context_set_psk2(context, &psk)) return 1;
    listen_on((unsigned short)(port + 1), COAP_PROTO_DTLS);
    if (coap_tls_is_supported()) listen_on((unsigned short)(port + 1), COAP_PROTO_TLS);
  }
  puts("ready");
  fflush(stdout);
  coap_ticks(&before);
  for (;;) {
    if (coap_io_process(context, TICK_MS / 2) < 0) return 1;
    coap_ticks(&now);
    if ((now - before) * 1000 / COAP_TICKS_PER_SECOND >= TICK_MS) {
      before = now;
      tick();
    }
  }
}
