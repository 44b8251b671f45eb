/* What this firmware has to say, and what may be set on it. */
#include "firmware.h"

#include "board.h"

enum { MAX_LABEL = 16 };

static uint32_t blink_ms;
static char label[MAX_LABEL];
static uint16_t label_length;

static int get_temperature(void *context, dpe_value *value) {
  (void)context;
  return board_temperature_centicelsius(&value->number) == 0 ? 0 : DPE_ERROR_NO_VALUE;
}

static int get_supply(void *context, dpe_value *value) {
  (void)context;
  return board_supply_millivolts(&value->number) == 0 ? 0 : DPE_ERROR_NO_VALUE;
}

static int get_reset_cause(void *context, dpe_value *value) {
  uint16_t length = 0;
  (void)context;
  value->text = board_reset_cause();
  while (value->text[length] != '\0') length++;
  value->length = length;
  return 0;
}

static int get_uptime(void *context, dpe_value *value) {
  (void)context;
  value->number = (int32_t)(board_uptime_seconds() & INT32_MAX);
  return 0;
}

static int get_button(void *context, dpe_value *value) {
  (void)context;
  value->number = board_button();
  return 0;
}

static int get_led(void *context, dpe_value *value) {
  (void)context;
  value->number = board_led();
  return 0;
}

static int set_led(void *context, const dpe_value *value) {
  (void)context;
  board_set_led(value->number);
  return 0;
}

static int get_blink(void *context, dpe_value *value) {
  (void)context;
  value->number = (int32_t)blink_ms;
  return 0;
}

static int set_blink(void *context, const dpe_value *value) {
  (void)context;
  blink_ms = (uint32_t)value->number;
  return 0;
}

static int get_label(void *context, dpe_value *value) {
  (void)context;
  if (label_length == 0) return DPE_ERROR_NO_VALUE;
  value->text = label;
  value->length = label_length;
  return 0;
}

static int set_label(void *context, const dpe_value *value) {
  (void)context;
  for (uint16_t index = 0; index < value->length; index++) label[index] = value->text[index];
  label_length = value->length;
  return 0;
}

uint32_t firmware_blink_ms(void) {
  return blink_ms;
}

const dpe_property firmware_properties[FIRMWARE_PROPERTIES] = {
    {.name = "temperature", .unit = "Cel", .exponent = -2, .flags = DPE_OBSERVABLE, .min_interval_ms = 500, .dead_band = 10,
     .get = get_temperature},
    {.name = "supply/voltage", .unit = "V", .exponent = -3, .flags = DPE_OBSERVABLE, .min_interval_ms = 1000, .dead_band = 20,
     .get = get_supply},
    {.name = "reset/cause", .type = DPE_TYPE_TEXT, .get = get_reset_cause},
    {.name = "uptime", .unit = "s", .get = get_uptime},
    {.name = "button", .type = DPE_TYPE_BOOLEAN, .flags = DPE_OBSERVABLE, .min_interval_ms = 20, .get = get_button},
    {.name = "led", .type = DPE_TYPE_BOOLEAN, .flags = DPE_OBSERVABLE | DPE_WRITABLE, .min_interval_ms = 100, .get = get_led,
     .set = set_led},
    {.name = "led/blink", .unit = "s", .exponent = -3, .flags = DPE_WRITABLE, .minimum = 0, .maximum = 10000, .get = get_blink,
     .set = set_blink},
    {.name = "label", .type = DPE_TYPE_TEXT, .flags = DPE_OBSERVABLE | DPE_WRITABLE, .min_interval_ms = 500, .maximum = MAX_LABEL,
     .get = get_label, .set = set_label},
};
