/*
 * The C codecs on standard input and output, for comparison with other implementations. A line in, a line out; bytes are
 * hex digits, and "-" stands for none.
 *
 *   decode BYTES                       the messages of a stream of frames: "MESSAGE MESSAGE ..." and "dropped N"
 *   frame MESSAGE                      the frame of a message
 *   text BYTES                         the frame of a text
 *   read MESSAGE                       "TYPE CODE ID TOKEN NUMBER:VALUE ... PAYLOAD", or "malformed"
 *   write TYPE CODE ID TOKEN [NUMBER:VALUE ...] PAYLOAD      a message
 *   long LENGTH                        a text of that length, read block by block through the smallest message buffer:
 *                                      the bytes of its representation, and the code of the last answer
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "dpe_internal.h"

enum { LINE_SIZE = 1 << 19, MESSAGE_SIZE = 2048 };

static int digit(char c) {
  if (c >= '0' && c <= '9') return c - '0';
  if (c >= 'a' && c <= 'f') return c - 'a' + 10;
  return -1;
}

/* Bytes of hex digits up to anything else; their number. */
static size_t from_hex(const char *text, uint8_t *bytes, size_t size) {
  size_t length = 0;
  while (length < size && digit(text[0]) >= 0 && digit(text[1]) >= 0) {
    bytes[length++] = (uint8_t)(digit(text[0]) * 16 + digit(text[1]));
    text += 2;
  }
  return length;
}

static void print_hex(const uint8_t *bytes, size_t length) {
  if (length == 0) printf("-");
  for (size_t index = 0; index < length; index++) printf("%02x", bytes[index]);
}

static void decode(const uint8_t *stream, size_t length) {
  static dpe_decoder decoder;
  uint8_t message[MESSAGE_SIZE];
  int dropped = 0;
  dpe_decoder_init(&decoder);
  for (size_t index = 0; index < length; index++) {
    int result = dpe_decoder_push(&decoder, message, sizeof message, stream[index]);
    if (result < 0) dropped++;
    if (result <= 0) continue;
    print_hex(message, (size_t)result);
    printf(" ");
  }
  printf("dropped %d\n", dropped);
}

static void frame(const uint8_t *bytes, size_t length, int is_text) {
  dpe_encoder encoder;
  uint8_t byte;
  dpe_encoder_init(&encoder, bytes, (uint16_t)length, is_text);
  while (dpe_encoder_next(&encoder, &byte) != 0) printf("%02x", byte);
  printf("\n");
}

static void read_message(const uint8_t *message, size_t length) {
  dpe_header header;
  dpe_options options;
  dpe_options checked;
  int more;
  if (dpe_read_header(message, (uint16_t)length, &header, &options) != 0) {
    printf("malformed\n");
    return;
  }
  checked = options;
  while ((more = dpe_next_option(&checked)) == 1) {
  }
  if (more != 0) {
    printf("malformed\n");
    return;
  }
  printf("%d %d %d ", header.type, header.code, header.message_id);
  print_hex(header.token, header.token_length);
  while (dpe_next_option(&options) == 1) {
    printf(" %u:", (unsigned)options.number);
    print_hex(options.value, options.value_length);
  }
  printf(" ");
  print_hex(options.value, options.value_length);
  printf("\n");
}

static void write_message(char *line) {
  uint8_t bytes[MESSAGE_SIZE];
  uint8_t value[MESSAGE_SIZE];
  dpe_header header = {0};
  dpe_writer writer;
  char *word = strtok(line, " \n");
  size_t length;
  header.type = (uint8_t)atoi(word == NULL ? "0" : word);
  word = strtok(NULL, " \n");
  header.code = (uint8_t)atoi(word == NULL ? "0" : word);
  word = strtok(NULL, " \n");
  header.message_id = (uint16_t)atoi(word == NULL ? "0" : word);
  word = strtok(NULL, " \n");
  header.token_length = (uint8_t)from_hex(word == NULL ? "-" : word, header.token, DPE_TOKEN_SIZE);
  dpe_write_header(&writer, bytes, sizeof bytes, &header);
  while ((word = strtok(NULL, " \n")) != NULL) {
    char *colon = strchr(word, ':');
    if (colon == NULL) {
      length = from_hex(word, value, sizeof value);
      dpe_write_payload(&writer, value, (uint16_t)length);
      break;
    }
    length = from_hex(colon + 1, value, sizeof value);
    dpe_write_option(&writer, (uint16_t)atoi(word), value, (uint16_t)length);
  }
  print_hex(bytes, writer.length);
  printf("\n");
}

static int long_text(void *context, dpe_value *value) {
  static char text[UINT16_MAX];
  memset(text, 'x', sizeof text);
  value->text = text;
  value->length = *(const uint16_t *)context;
  return 0;
}

/* The bridge's answer to a message in the buffer, which it takes the place of; its length. */
static int exchange(dpe_bridge *bridge, uint8_t *message, uint16_t length) {
  dpe_encoder encoder;
  dpe_decoder decoder;
  uint8_t byte;
  int answered = 0;
  dpe_encoder_init(&encoder, message, length, 0);
  while (dpe_encoder_next(&encoder, &byte) != 0) dpe_bridge_receive(bridge, byte);
  (void)dpe_bridge_poll(bridge, 0);
  dpe_decoder_init(&decoder);
  while (dpe_bridge_transmit(bridge, &byte) != 0) {
    int result = dpe_decoder_push(&decoder, message, MESSAGE_SIZE, byte);
    if (result > 0) answered = result;
  }
  return answered;
}

static void read_long(uint16_t length) {
  static uint8_t buffer[DPE_MIN_MESSAGE_SIZE];
  static uint8_t ring[256];
  dpe_property_state state = {0};
  dpe_property property = {0};
  dpe_config config = {&property, &state, 1, buffer, sizeof buffer, ring, sizeof ring};
  dpe_bridge bridge;
  dpe_header header = {0};
  dpe_options options;
  uint8_t message[MESSAGE_SIZE];
  uint8_t byte;
  unsigned read = 0;
  int32_t block = 2;
  property.name = "long";
  property.type = DPE_TYPE_TEXT;
  property.get = long_text;
  property.context = &length;
  if (dpe_bridge_init(&bridge, &config, 0) != 0) return;
  (void)dpe_bridge_poll(&bridge, 0);
  while (dpe_bridge_transmit(&bridge, &byte) != 0) {
  }
  for (;;) {
    dpe_writer writer;
    int answered;
    int32_t found = 0;
    header.type = DPE_CONFIRMABLE;
    header.code = DPE_GET;
    header.message_id++;
    dpe_write_header(&writer, message, sizeof message, &header);
    dpe_write_option(&writer, DPE_OPTION_URI_PATH, (const uint8_t *)"p", 1);
    dpe_write_option(&writer, DPE_OPTION_URI_PATH, (const uint8_t *)"long", 4);
    dpe_write_uint_option(&writer, DPE_OPTION_BLOCK2, (uint32_t)block);
    answered = exchange(&bridge, message, writer.length);
    if (dpe_read_header(message, (uint16_t)answered, &header, &options) != 0) break;
    while (dpe_next_option(&options) == 1)
      if (options.number == DPE_OPTION_BLOCK2) found = dpe_option_uint(&options);
    read += options.value_length;
    if (header.code != DPE_CONTENT || (found & 8) == 0) break;
    block = ((found >> 4) + 1) << 4 | (found & 7);
  }
  printf("%u %u\n", read, header.code);
}

int main(void) {
  static char line[LINE_SIZE];
  static uint8_t bytes[LINE_SIZE / 2];
  while (fgets(line, sizeof line, stdin) != NULL) {
    char *rest = strchr(line, ' ');
    size_t length;
    if (rest == NULL) return 1;
    *rest++ = '\0';
    length = from_hex(rest, bytes, sizeof bytes);
    if (strcmp(line, "decode") == 0) decode(bytes, length);
    else if (strcmp(line, "frame") == 0) frame(bytes, length, 0);
    else if (strcmp(line, "text") == 0) frame(bytes, length, 1);
    else if (strcmp(line, "read") == 0) read_message(bytes, length);
    else if (strcmp(line, "write") == 0) write_message(rest);
    else if (strcmp(line, "long") == 0) read_long((uint16_t)atoi(rest));
    else return 1;
  }
  return 0;
}
