/*
 * Representations: SenML-CBOR (RFC 8428 §6) and the link format (RFC 6690), written through a window; and the two packs
 * that requests carry. Numbers with digits after the point are decimal fractions (RFC 8949 §3.4.4), so that neither a
 * getter nor this file needs floating point.
 */
#include "dpe_internal.h"

enum { UNSIGNED, NEGATIVE, BYTES, TEXT, ARRAY, MAP, TAG, SIMPLE };
enum { KEY_NAME = 0, KEY_UNIT = 1, KEY_VALUE = 2, KEY_TEXT = 3, KEY_BOOLEAN = 4 };
enum { KEY_BASE_NAME = -2 };
enum { DECIMAL_FRACTION = 4, FALSE_VALUE = 20, TRUE_VALUE = 21, INDEFINITE = 31 };

void dpe_window_init(dpe_window *window, uint8_t *bytes, uint32_t from, uint32_t size) {
  window->bytes = bytes;
  window->from = from;
  window->size = size;
  window->total = 0;
  window->fcs = DPE_FCS_START;
}

void dpe_put(dpe_window *window, uint8_t byte) {
  /* Below `from` the difference wraps around and is above any size. */
  if (window->total - window->from < window->size) window->bytes[window->total - window->from] = byte;
  window->total++;
  window->fcs = dpe_fcs(window->fcs, byte);
}

void dpe_put_text(dpe_window *window, const char *text) {
  while (*text != '\0') dpe_put(window, (uint8_t)*text++);
}

void dpe_put_cbor_head(dpe_window *window, uint8_t major, uint32_t value) {
  uint8_t first = (uint8_t)(major << 5);
  int shift = -8;
  if (value < 24) {
    dpe_put(window, (uint8_t)(first | value));
  } else if (value <= 0xffu) {
    dpe_put(window, first | 24u);
    shift = 0;
  } else if (value <= 0xffffu) {
    dpe_put(window, first | 25u);
    shift = 8;
  } else {
    dpe_put(window, first | 26u);
    shift = 24;
  }
  for (; shift >= 0; shift -= 8) dpe_put(window, (uint8_t)((value >> shift) & 0xffu));
}

static void put_integer(dpe_window *window, int32_t value) {
  if (value < 0) dpe_put_cbor_head(window, NEGATIVE, ~(uint32_t)value);
  else dpe_put_cbor_head(window, UNSIGNED, (uint32_t)value);
}

static void put_cbor_text(dpe_window *window, const char *text, uint16_t length) {
  dpe_put_cbor_head(window, TEXT, length);
  for (uint16_t index = 0; index < length; index++) dpe_put(window, (uint8_t)text[index]);
}

void dpe_put_record(dpe_window *window, const dpe_property *property, const dpe_value *value) {
  dpe_put_cbor_head(window, MAP, property->unit == NULL ? 2 : 3);
  dpe_put(window, KEY_NAME);
  put_cbor_text(window, property->name, dpe_text_length(property->name));
  if (property->unit != NULL) {
    dpe_put(window, KEY_UNIT);
    put_cbor_text(window, property->unit, dpe_text_length(property->unit));
  }
  if (property->type == DPE_TYPE_TEXT) {
    dpe_put(window, KEY_TEXT);
    put_cbor_text(window, value->text, value->length);
  } else if (property->type == DPE_TYPE_BOOLEAN) {
    dpe_put(window, KEY_BOOLEAN);
    dpe_put_cbor_head(window, SIMPLE, value->number != 0 ? TRUE_VALUE : FALSE_VALUE);
  } else {
    dpe_put(window, KEY_VALUE);
    if (property->exponent != 0) {
      dpe_put_cbor_head(window, TAG, DECIMAL_FRACTION);
      dpe_put_cbor_head(window, ARRAY, 2);
      put_integer(window, property->exponent);
    }
    put_integer(window, value->number);
  }
}

void dpe_put_links(dpe_window *window, const dpe_property *properties, uint8_t count) {
  dpe_put_text(window, "</dpe>;rt=\"dpe.bridge\";ct=60,</p>;rt=\"dpe.p\";ct=112");
  for (uint8_t index = 0; index < count; index++) {
    const dpe_property *property = &properties[index];
    dpe_put_text(window, ",</p/");
    dpe_put_text(window, property->name);
    dpe_put_text(window, (property->flags & DPE_WRITABLE) != 0 ? ">;if=\"core.a\";ct=112" : ">;if=\"core.s\";ct=112");
    if (property->unit != NULL) {
      dpe_put_text(window, ";u=\"");
      dpe_put_text(window, property->unit);
      dpe_put(window, '"');
    }
    if ((property->flags & DPE_OBSERVABLE) != 0) dpe_put_text(window, ";obs");
  }
}

/* --- Reading: definite and indefinite arrays and maps, scalars in them; whatever else is refused --- */

typedef struct reader {
  const uint8_t *bytes;
  uint16_t length;
  uint16_t position;
  uint8_t major;
  uint8_t info;
  uint32_t value;
} reader;

/* Reads an item's head; 0 or DPE_ERROR_FORMAT. Of text and byte strings `position` is then at the first byte. */
static int read_head(reader *from) {
  uint8_t first;
  uint8_t size;
  if (from->position >= from->length) return DPE_ERROR_FORMAT;
  first = from->bytes[from->position++];
  from->major = first >> 5;
  from->info = first & 0x1fu;
  from->value = from->info;
  if (from->info < 24) return 0;
  if (from->info == INDEFINITE) return from->major == ARRAY || from->major == MAP || from->major == SIMPLE ? 0 : DPE_ERROR_FORMAT;
  if (from->info > 27) return DPE_ERROR_FORMAT;
  size = (uint8_t)(1u << (from->info - 24));
  if (from->length - from->position < size) return DPE_ERROR_FORMAT;
  from->value = 0;
  for (uint8_t index = 0; index < size; index++) {
    /* A number above 32 bits is more than any property takes, and more than any text here is long. */
    if (from->value >> 24 != 0 && from->major != SIMPLE) return DPE_ERROR_FORMAT;
    from->value = (from->value << 8) | from->bytes[from->position++];
  }
  return 0;
}

/* A text string; its bytes begin at the position returned, and are read. DPE_ERROR_FORMAT. */
static int32_t read_text(reader *from) {
  uint16_t start = from->position;
  if (from->major != TEXT && from->major != BYTES) return DPE_ERROR_FORMAT;
  if (from->value > (uint32_t)(from->length - from->position)) return DPE_ERROR_FORMAT;
  from->position = (uint16_t)(from->position + from->value);
  return start;
}

/* Whether a container with `left` items has another; takes the break of an indefinite one. DPE_ERROR_FORMAT at the end. */
static int has_next(reader *from, uint8_t info, uint32_t *left) {
  if (info != INDEFINITE) {
    if (*left == 0) return 0;
    (*left)--;
    return 1;
  }
  if (from->position >= from->length) return DPE_ERROR_FORMAT;
  if (from->bytes[from->position] != 0xffu) return 1;
  from->position++;
  return 0;
}

static int integer_of(const reader *from, int32_t *value) {
  if (from->value > INT32_MAX) return DPE_ERROR_FORMAT;
  if (from->major == UNSIGNED) *value = (int32_t)from->value;
  else if (from->major == NEGATIVE) *value = -1 - (int32_t)from->value;
  else return DPE_ERROR_FORMAT;
  return 0;
}

/* An integer or decimal fraction whose head was read: mantissa and power of ten. */
static int read_decimal(reader *from, int32_t *value, int32_t *power) {
  *power = 0;
  if (from->major == TAG) {
    if (from->value != DECIMAL_FRACTION || read_head(from) != 0 || from->major != ARRAY || from->info != 2) return DPE_ERROR_FORMAT;
    if (read_head(from) != 0 || integer_of(from, power) != 0 || read_head(from) != 0) return DPE_ERROR_FORMAT;
  }
  return integer_of(from, value);
}

/* A number in units of ten to the power of `exponent`: exactly, or not at all. */
static int read_number(reader *from, int8_t exponent, int32_t *value) {
  int32_t power;
  if (read_decimal(from, value, &power) != 0 || power < -32 || power > 32) return DPE_ERROR_FORMAT;
  for (; power < exponent && *value != 0; power++) {
    if (*value % 10 != 0) return DPE_ERROR_FORMAT;
    *value /= 10;
  }
  for (; power > exponent && *value != 0; power--) {
    if (*value > INT32_MAX / 10 || *value < INT32_MIN / 10) return DPE_ERROR_FORMAT;
    *value *= 10;
  }
  return 0;
}

/* Passes over a value whose head was read; no container, and a tag only before a decimal fraction. */
static int skip_value(reader *from) {
  int32_t value, power;
  switch (from->major) {
    case TEXT:
    case BYTES: return read_text(from) < 0 ? DPE_ERROR_FORMAT : 0;
    case TAG: return read_decimal(from, &value, &power);
    case ARRAY:
    case MAP: return DPE_ERROR_FORMAT;
    default: return from->info == INDEFINITE ? DPE_ERROR_FORMAT : 0;
  }
}

/* The key of a pair, read whole: an integer from -32768 on; a text key is one that is not known. */
static int read_key(reader *from, int32_t *key) {
  if (read_head(from) != 0) return DPE_ERROR_FORMAT;
  if (from->major == TEXT) {
    *key = INT32_MAX;
    return read_text(from) < 0 ? DPE_ERROR_FORMAT : 0;
  }
  return integer_of(from, key);
}

static int read_typed(reader *from, int32_t key, const dpe_property *property, dpe_value *value) {
  if (property->type == DPE_TYPE_BOOLEAN) {
    if (key != KEY_BOOLEAN || from->major != SIMPLE || (from->info != FALSE_VALUE && from->info != TRUE_VALUE))
      return DPE_ERROR_FORMAT;
    value->number = from->info == TRUE_VALUE;
    return 0;
  }
  if (property->type == DPE_TYPE_TEXT) {
    int32_t start;
    if (key != KEY_TEXT || from->major != TEXT) return DPE_ERROR_FORMAT;
    value->length = (uint16_t)(from->value & 0xffffu);
    start = read_text(from);
    if (start < 0) return DPE_ERROR_FORMAT;
    value->text = (const char *)(from->bytes + start);
    return 0;
  }
  return key == KEY_VALUE ? read_number(from, property->exponent, &value->number) : DPE_ERROR_FORMAT;
}

int dpe_read_value(const uint8_t *pack, uint16_t length, const dpe_property *property, dpe_value *value) {
  reader from = {pack, length, 0, 0, 0, 0};
  uint32_t records, pairs;
  uint8_t array_info, map_info;
  int found = 0;
  int more;
  value->number = 0;
  value->text = NULL;
  value->length = 0;
  if (read_head(&from) != 0 || from.major != ARRAY) return DPE_ERROR_FORMAT;
  array_info = from.info;
  records = from.value;
  if (has_next(&from, array_info, &records) != 1 || read_head(&from) != 0 || from.major != MAP) return DPE_ERROR_FORMAT;
  map_info = from.info;
  pairs = from.value;
  while ((more = has_next(&from, map_info, &pairs)) == 1) {
    int32_t key;
    if (read_key(&from, &key) != 0 || read_head(&from) != 0) return DPE_ERROR_FORMAT;
    if (key >= KEY_VALUE && key <= KEY_BOOLEAN) {
      if (found != 0 || read_typed(&from, key, property, value) != 0) return DPE_ERROR_FORMAT;
      found = 1;
    } else if (skip_value(&from) != 0) {
      return DPE_ERROR_FORMAT;
    }
  }
  if (more != 0 || has_next(&from, array_info, &records) != 0 || from.position != length) return DPE_ERROR_FORMAT;
  return found != 0 ? 0 : DPE_ERROR_FORMAT;
}

typedef struct span {
  const uint8_t *bytes;
  uint16_t length;
} span;

/* Whether base name and name together are this property's. */
static int is_named(const char *property, span base, span name) {
  for (uint16_t index = 0; index < base.length; index++) {
    if (*property == '\0' || (uint8_t)*property != base.bytes[index]) return 0;
    property++;
  }
  return dpe_equals(name.bytes, name.length, property);
}

int dpe_read_names(const uint8_t *pack, uint16_t length, const dpe_property *properties, uint8_t count, uint32_t *named) {
  reader from = {pack, length, 0, 0, 0, 0};
  span base = {pack, 0};
  uint32_t records;
  uint8_t array_info;
  int more;
  *named = 0;
  if (read_head(&from) != 0 || from.major != ARRAY) return DPE_ERROR_FORMAT;
  array_info = from.info;
  records = from.value;
  while ((more = has_next(&from, array_info, &records)) == 1) {
    span name = {pack, 0};
    uint32_t pairs;
    uint8_t map_info;
    int more_pairs;
    if (read_head(&from) != 0 || from.major != MAP) return DPE_ERROR_FORMAT;
    map_info = from.info;
    pairs = from.value;
    while ((more_pairs = has_next(&from, map_info, &pairs)) == 1) {
      int32_t key;
      if (read_key(&from, &key) != 0 || read_head(&from) != 0) return DPE_ERROR_FORMAT;
      if (key == KEY_NAME || key == KEY_BASE_NAME) {
        span text = {pack, (uint16_t)(from.value & 0xffffu)};
        int32_t start = from.major == TEXT ? read_text(&from) : DPE_ERROR_FORMAT;
        if (start < 0) return DPE_ERROR_FORMAT;
        text.bytes = pack + start;
        if (key == KEY_NAME) name = text;
        else base = text;
      } else if (skip_value(&from) != 0) {
        return DPE_ERROR_FORMAT;
      }
    }
    if (more_pairs != 0) return DPE_ERROR_FORMAT;
    for (uint8_t index = 0; index < count; index++) {
      if (is_named(properties[index].name, base, name) != 0) *named |= (uint32_t)1 << index;
    }
  }
  return more == 0 && from.position == length ? 0 : DPE_ERROR_FORMAT;
}
