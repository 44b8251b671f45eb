/* Vectors, memory and the two functions that a compiler may call by itself, for a Cortex-M3 without a C library. */
#include <stddef.h>
#include <stdint.h>

extern uint32_t stack_top[], data_start[], data_end[], data_load[], bss_start[], bss_end[];
extern int main(void);
extern void systick_handler(void);
extern void uart0_handler(void);
void reset_handler(void);
void stop_handler(void);
void *memset(void *to, int value, size_t size);
void *memcpy(void *restrict to, const void *restrict from, size_t size);

void reset_handler(void) {
  const uint32_t *from = data_load;
  for (uint32_t *to = data_start; to < data_end; to++) *to = *from++;
  for (uint32_t *to = bss_start; to < bss_end; to++) *to = 0;
  (void)main();
  stop_handler();
}

void stop_handler(void) {
  for (;;) {
  }
}

void *memset(void *to, int value, size_t size) {
  uint8_t *bytes = to;
  while (size-- > 0) *bytes++ = (uint8_t)value;
  return to;
}

void *memcpy(void *restrict to, const void *restrict from, size_t size) {
  uint8_t *bytes = to;
  const uint8_t *source = from;
  while (size-- > 0) *bytes++ = *source++;
  return to;
}

typedef void (*vector)(void);
enum { VECTORS = 16 + 6 };

__attribute__((section(".vectors"), used)) static const struct {
  uint32_t *stack;
  vector handlers[VECTORS - 1];
} vectors = {
    stack_top,
    {[0] = reset_handler, [1] = stop_handler, [2] = stop_handler, [3] = stop_handler, [4] = stop_handler, [5] = stop_handler,
     [14] = systick_handler, [20] = uart0_handler},
};
