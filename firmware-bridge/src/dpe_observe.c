/*
 * Observation (RFC 7641), of one observer for each property: the gateway. Notifications are Confirmable, one at a time; what is
 * not acknowledged is sent again with the value as it is then (§4.5.2), and who acknowledges nothing observes nothing any more.
 */
#include "dpe_internal.h"

enum { ACK_TIMEOUT_MS = 250, MAX_ATTEMPTS = 5 };

void dpe_keep_observer(dpe_bridge *bridge, const dpe_request *read, int32_t mark) {
  dpe_property_state *state = &bridge->config.states[read->property];
  if (bridge->awaited == read->property) bridge->awaited = DPE_IDLE;
  state->flags = DPE_OBSERVED;
  state->asked_ms = bridge->now_ms;
  state->sent = mark;
  state->token_length = read->header.token_length;
  for (uint8_t index = 0; index < DPE_TOKEN_SIZE; index++) state->token[index] = read->header.token[index];
}

static int has_changed(const dpe_property *property, const dpe_property_state *state, int32_t mark) {
  int64_t moved = (int64_t)mark - state->sent;
  if (property->type != DPE_TYPE_NUMBER) return moved != 0;
  return moved > property->dead_band || -moved > property->dead_band;
}

static void notify(dpe_bridge *bridge, uint8_t index, const dpe_value *value) {
  const dpe_property *property = &bridge->config.properties[index];
  dpe_property_state *state = &bridge->config.states[index];
  dpe_request none = {0};
  dpe_window window;
  none.szx = DPE_LARGEST_SZX;
  none.header.type = DPE_CONFIRMABLE;
  none.header.code = DPE_CONTENT;
  none.header.message_id = bridge->message_id++;
  none.header.token_length = state->token_length;
  for (uint8_t at = 0; at < DPE_TOKEN_SIZE; at++) none.header.token[at] = state->token[at];
  bridge->observe_sequence = (bridge->observe_sequence + 1) & 0xffffffu;
  state->sent = dpe_mark_of(property, value);
  bridge->awaited = index;
  bridge->awaited_id = none.header.message_id;
  bridge->awaited_since_ms = bridge->now_ms;
  bridge->attempts++;
  dpe_open_window(bridge, &none, &window);
  dpe_put_property(&window, property, value);
  dpe_send_window(bridge, &none, &window, DPE_SENML_CBOR, 1);
}

static void forget_observer(dpe_bridge *bridge) {
  for (uint8_t index = 0; index < bridge->config.property_count; index++) bridge->config.states[index].flags = 0;
  bridge->awaited = DPE_IDLE;
}

void dpe_handle_awaited(dpe_bridge *bridge) {
  uint32_t timeout = (uint32_t)ACK_TIMEOUT_MS << (bridge->attempts - 1);
  dpe_value value;
  if (bridge->now_ms - bridge->awaited_since_ms < timeout) return;
  if (bridge->attempts >= MAX_ATTEMPTS) {
    forget_observer(bridge);
  } else if (dpe_value_of(&bridge->config.properties[bridge->awaited], &value) == 0) {
    notify(bridge, bridge->awaited, &value);
  } else {
    bridge->awaited = DPE_IDLE;
  }
}

void dpe_notify_next(dpe_bridge *bridge) {
  for (uint8_t step = 0; step < bridge->config.property_count; step++) {
    uint8_t index = bridge->next_property;
    const dpe_property *property = &bridge->config.properties[index];
    dpe_property_state *state = &bridge->config.states[index];
    dpe_value value;
    bridge->next_property = (uint8_t)((index + 1) % bridge->config.property_count);
    if ((state->flags & DPE_OBSERVED) == 0) continue;
    if (bridge->now_ms - state->asked_ms < property->min_interval_ms) continue;
    state->asked_ms = bridge->now_ms;
    if (dpe_value_of(property, &value) != 0 || has_changed(property, state, dpe_mark_of(property, &value)) == 0) continue;
    bridge->attempts = 0;
    notify(bridge, index, &value);
    return;
  }
}
