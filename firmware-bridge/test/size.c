/* All the memory of a bridge with 16 properties and a message buffer of 256 bytes; `make size` measures it. */
#include "dpe_bridge.h"

enum { PROPERTIES = 16 };
extern dpe_bridge bridge;
extern dpe_property_state states[PROPERTIES];
extern uint8_t message[256];
extern uint8_t ring[128];
dpe_bridge bridge;
dpe_property_state states[PROPERTIES];
uint8_t message[256];
uint8_t ring[128];
