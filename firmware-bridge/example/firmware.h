/* The example's properties. */
#ifndef FIRMWARE_H
#define FIRMWARE_H

#include "dpe_bridge.h"

enum { FIRMWARE_PROPERTIES = 8 };
extern const dpe_property firmware_properties[FIRMWARE_PROPERTIES];

/* How long the LED is on and off in turn; 0: it is as it was set. */
uint32_t firmware_blink_ms(void);

#endif
