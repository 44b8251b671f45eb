/*
 * The example on a Cortex-M3, the LM3S6965 of Texas Instruments' evaluation board, which QEMU has as lm3s6965evb. UART0 at
 * 115200 8N1 is the wire; LED on PF0, button on PF1, the supply by a divider of 2 on ADC0. Register names are the
 * datasheet's.
 */
#include "board.h"
#include "firmware.h"

#define REGISTER(address) (*(volatile uint32_t *)(address))

#define SYSCTL(offset) REGISTER(0x400fe000u + (offset))
#define RIS SYSCTL(0x050u)
#define RESC SYSCTL(0x05cu)
#define RCC SYSCTL(0x060u)
#define RCGC0 SYSCTL(0x100u)
#define RCGC1 SYSCTL(0x104u)
#define RCGC2 SYSCTL(0x108u)

#define UART0(offset) REGISTER(0x4000c000u + (offset))
#define UARTDR UART0(0x00u)
#define UARTFR UART0(0x18u)
#define UARTIBRD UART0(0x24u)
#define UARTFBRD UART0(0x28u)
#define UARTLCRH UART0(0x2cu)
#define UARTCTL UART0(0x30u)
#define UARTIM UART0(0x38u)
#define UARTICR UART0(0x44u)

#define ADC(offset) REGISTER(0x40038000u + (offset))
#define ADCACTSS ADC(0x00u)
#define ADCEMUX ADC(0x14u)
#define ADCSSMUX0 ADC(0x40u)
#define ADCSSCTL0 ADC(0x44u)
#define ADCSSFIFO0 ADC(0x48u)
#define ADCSSFSTAT0 ADC(0x4cu)

#define TIMER0(offset) REGISTER(0x40030000u + (offset))
#define GPTMCFG TIMER0(0x00u)
#define GPTMTAMR TIMER0(0x04u)
#define GPTMCTL TIMER0(0x0cu)
#define GPTMTAILR TIMER0(0x28u)

#define GPIOA_AFSEL REGISTER(0x40004420u)
#define GPIOA_DEN REGISTER(0x4000451cu)
#define GPIOF(offset) REGISTER(0x40025000u + (offset))
#define GPIOF_LED GPIOF(1u << 2)
#define GPIOF_BUTTON GPIOF(2u << 2)
#define GPIOF_DIR GPIOF(0x400u)
#define GPIOF_PUR GPIOF(0x510u)
#define GPIOF_DEN GPIOF(0x51cu)

#define SYST_CSR REGISTER(0xe000e010u)
#define SYST_RVR REGISTER(0xe000e014u)
#define NVIC_ISER0 REGISTER(0xe000e100u)

enum { CLOCK_HZ = 50000000, BAUD = 115200 };
enum { RX_EMPTY = 1 << 4, TX_FULL = 1 << 5, RX_INTERRUPT = 1 << 4, RX_TIMEOUT_INTERRUPT = 1 << 6, UART0_IRQ = 5 };
enum { FIFO_EMPTY = 1 << 8, TRIGGER_BY_TIMER = 5, SAMPLES_PER_SECOND = 20, FIRST_SAMPLES_MS = 500 };
enum { MESSAGE_SIZE = 256, RING_SIZE = 128 };

static dpe_bridge bridge;
static dpe_property_state states[FIRMWARE_PROPERTIES];
static uint8_t message[MESSAGE_SIZE];
static uint8_t ring[RING_SIZE];

static volatile uint32_t now_ms;
static volatile uint32_t temperature_sample;
static volatile uint32_t supply_sample;
static volatile uint32_t samples;
static uint32_t reset_cause;
static int led;

void systick_handler(void);
void uart0_handler(void);
int main(void);

void systick_handler(void) {
  /* The sequencer gives the temperature and the supply in turn. */
  static uint8_t is_supply;
  now_ms++;
  while ((ADCSSFSTAT0 & FIFO_EMPTY) == 0) {
    if (is_supply != 0) supply_sample = ADCSSFIFO0;
    else temperature_sample = ADCSSFIFO0;
    is_supply = is_supply == 0;
    samples++;
  }
}

void uart0_handler(void) {
  UARTICR = RX_INTERRUPT | RX_TIMEOUT_INTERRUPT;
  while ((UARTFR & RX_EMPTY) == 0) dpe_bridge_receive(&bridge, (uint8_t)(UARTDR & 0xffu));
}

int board_temperature_centicelsius(int32_t *value) {
  /* T = 147.5 - 225 * sample / 1024, the datasheet's formula for the sensor on the chip. */
  *value = 14750 - (int32_t)(temperature_sample * 22500u / 1024u);
  return samples > 0 ? 0 : -1;
}

int board_supply_millivolts(int32_t *value) {
  *value = (int32_t)(supply_sample * 2u * 3000u / 1024u);
  return samples > 1 ? 0 : -1;
}

const char *board_reset_cause(void) {
  if ((reset_cause & 2u) != 0) return "power-on";
  if ((reset_cause & 4u) != 0) return "brown-out";
  if ((reset_cause & 8u) != 0) return "watchdog";
  if ((reset_cause & 16u) != 0) return "software";
  return (reset_cause & 1u) != 0 ? "pin" : "unknown";
}

uint32_t board_uptime_seconds(void) {
  return now_ms / 1000u;
}

int board_button(void) {
  return GPIOF_BUTTON == 0;
}

int board_led(void) {
  return led;
}

void board_set_led(int is_on) {
  led = is_on != 0;
  GPIOF_LED = (uint32_t)led;
}

static void set_up_clock(void) {
  uint32_t rcc = (RCC | (1u << 11)) & ~(1u << 22);
  RCC = rcc;
  /* An 8 MHz crystal through the PLL, divided to 50 MHz. */
  rcc = (rcc & ~((0xfu << 6) | (3u << 4) | (1u << 13) | (1u << 12) | (0xfu << 23))) | (0xeu << 6) | (3u << 23) | (1u << 22);
  RCC = rcc;
  while ((RIS & (1u << 6)) == 0) {
  }
  RCC = rcc & ~(1u << 11);
  RCGC0 = 1u << 16;
  RCGC1 = 1u | (1u << 16);
  RCGC2 = 1u | (1u << 5);
  /* The datasheet asks for some cycles between a clock's gate and the first access. */
  (void)RCGC2;
  (void)RCGC2;
}

static void set_up_board(void) {
  set_up_clock();
  reset_cause = RESC;
  RESC = 0;
  SYST_RVR = CLOCK_HZ / 1000 - 1;
  SYST_CSR = 7;
  GPIOF_DIR = 1;
  GPIOF_PUR = 2;
  GPIOF_DEN = 3;
  GPTMCFG = 0;
  GPTMTAMR = 2;
  GPTMTAILR = CLOCK_HZ / SAMPLES_PER_SECOND;
  ADCEMUX = TRIGGER_BY_TIMER;
  ADCSSMUX0 = 0;
  ADCSSCTL0 = (1u << 3) | (1u << 5);
  ADCACTSS = 1;
  GPTMCTL = 1u | (1u << 5);
  GPIOA_AFSEL = 3;
  GPIOA_DEN = 3;
  UARTIBRD = CLOCK_HZ / (16 * BAUD);
  UARTFBRD = (CLOCK_HZ % (16 * BAUD) * 64 + 8 * BAUD) / (16 * BAUD);
  UARTLCRH = (3u << 5) | (1u << 4);
  UARTIM = RX_INTERRUPT | RX_TIMEOUT_INTERRUPT;
  UARTCTL = 1u | (1u << 8) | (1u << 9);
  NVIC_ISER0 = 1u << UART0_IRQ;
}

static void blink(void) {
  static uint32_t turned_ms;
  uint32_t period = firmware_blink_ms();
  if (period == 0 || now_ms - turned_ms < period) return;
  turned_ms = now_ms;
  board_set_led(!led);
}

int main(void) {
  const dpe_config config = {
      .properties = firmware_properties,
      .states = states,
      .property_count = FIRMWARE_PROPERTIES,
      .message = message,
      .message_size = sizeof message,
      .ring = ring,
      .ring_size = sizeof ring,
  };
  set_up_board();
  /* So that whoever asks first is not told that there is no value; a broken sensor holds nothing up. */
  while (samples < 2 && now_ms < FIRST_SAMPLES_MS) __asm__ volatile("wfi");
  if (dpe_bridge_init(&bridge, &config, now_ms) != 0) return 1;
  for (;;) {
    uint8_t byte;
    blink();
    if (dpe_bridge_poll(&bridge, now_ms) == 0) __asm__ volatile("wfi");
    while ((UARTFR & TX_FULL) == 0 && dpe_bridge_transmit(&bridge, &byte) != 0) UARTDR = byte;
  }
}
