/* What the example needs of a board. board-lm3s6965.c is one; the host simulator is another. */
#ifndef BOARD_H
#define BOARD_H

#include <stdint.h>

/* 0, or below it while there is no sample yet. */
int board_temperature_centicelsius(int32_t *value);
int board_supply_millivolts(int32_t *value);
const char *board_reset_cause(void);
uint32_t board_uptime_seconds(void);
int board_button(void);
int board_led(void);
void board_set_led(int is_on);

#endif
