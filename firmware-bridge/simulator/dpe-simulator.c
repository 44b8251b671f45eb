/*
 * The example's firmware on this machine, with a pty, a Unix socket or a TCP port as its wire.
 *
 *   dpe-simulator --pty LINK | --unix PATH | --tcp PORT [--counter MS]
 *
 * --counter adds an observable property `counter` that grows by one each MS ms. Lines on standard input:
 *
 *   reset              starts over, as after a reset button
 *   reset-after N      the same after N more bytes were sent: in the middle of a frame, if need be
 *   unplug, plug       closes the wire, and makes it anew
 *   button 0|1         of the board
 *   send HEX           bytes onto the wire as they are
 *   log TEXT           a diagnostic line
 *   quit
 *
 * It prints `ready WIRE`, `acknowledged NAME NUMBER` for each notification that the gateway has taken, `led 0|1`.
 */
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <termios.h>
#include <time.h>
#include <unistd.h>

#include "board.h"
#include "firmware.h"

enum { PROPERTIES = FIRMWARE_PROPERTIES + 1, MESSAGE_SIZE = 256, RING_SIZE = 128, LINE_SIZE = 1024, NEVER = -1 };
enum { PTY, UNIX_SOCKET, TCP_SOCKET };

typedef struct simulator {
  dpe_bridge bridge;
  dpe_property properties[PROPERTIES];
  dpe_property_state states[PROPERTIES];
  uint8_t property_count;
  uint8_t message[MESSAGE_SIZE];
  uint8_t ring[RING_SIZE];
  uint32_t counter_ms;
  int kind;
  const char *where;
  int listener; /* of a socket */
  int wire;
  int other_end; /* a pty's, held open so that a gateway that closes it is not the end */
  long reset_after;
  dpe_decoder watcher;
  uint8_t watched[MESSAGE_SIZE];
  char line[LINE_SIZE];
  size_t line_length;
} simulator;

static uint32_t booted_ms;
static int button;
static int led;
static volatile sig_atomic_t is_over;

static uint32_t now_ms(void) {
  struct timespec now;
  (void)clock_gettime(CLOCK_MONOTONIC, &now);
  return (uint32_t)((uint64_t)now.tv_sec * 1000u + (uint64_t)now.tv_nsec / 1000000u);
}

int board_temperature_centicelsius(int32_t *value) {
  static uint32_t noise = 1;
  static int32_t temperature = 2150;
  noise = noise * 1664525u + 1013904223u;
  temperature += (int32_t)(noise >> 28) - 7;
  if (temperature < 1500 || temperature > 3000) temperature = 2150;
  *value = temperature;
  return 0;
}

int board_supply_millivolts(int32_t *value) {
  *value = 3300 - (int32_t)(board_uptime_seconds() % 100u);
  return 0;
}

const char *board_reset_cause(void) {
  return "power-on";
}

uint32_t board_uptime_seconds(void) {
  return (now_ms() - booted_ms) / 1000u;
}

int board_button(void) {
  return button;
}

int board_led(void) {
  return led;
}

void board_set_led(int is_on) {
  led = is_on;
  printf("led %d\n", led);
}

static int get_counter(void *context, dpe_value *value) {
  const simulator *all = context;
  value->number = (int32_t)((now_ms() - booted_ms) / all->counter_ms);
  return 0;
}

static void fail(const char *what) {
  fprintf(stderr, "dpe-simulator: %s: %s\n", what, strerror(errno));
  exit(1);
}

static void boot(simulator *all) {
  const dpe_config config = {
      .properties = all->properties,
      .states = all->states,
      .property_count = all->property_count,
      .message = all->message,
      .message_size = sizeof all->message,
      .ring = all->ring,
      .ring_size = sizeof all->ring,
  };
  all->reset_after = NEVER;
  if (dpe_bridge_init(&all->bridge, &config, now_ms()) != 0) fail("configuration");
}

static void set_non_blocking(int descriptor) {
  if (fcntl(descriptor, F_SETFL, O_NONBLOCK) < 0) fail("fcntl");
}

static void open_pty(simulator *all) {
  struct termios raw;
  const char *name;
  all->wire = posix_openpt(O_RDWR | O_NOCTTY);
  if (all->wire < 0 || grantpt(all->wire) != 0 || unlockpt(all->wire) != 0) fail("pty");
  name = ptsname(all->wire);
  if (name == NULL) fail("ptsname");
  all->other_end = open(name, O_RDWR | O_NOCTTY);
  if (all->other_end < 0 || tcgetattr(all->other_end, &raw) != 0) fail(name);
  raw.c_iflag = 0;
  raw.c_oflag = 0;
  raw.c_lflag = 0;
  raw.c_cflag = (raw.c_cflag & ~(tcflag_t)(CSIZE | PARENB)) | CS8;
  if (tcsetattr(all->other_end, TCSANOW, &raw) != 0) fail("tcsetattr");
  (void)unlink(all->where);
  if (symlink(name, all->where) != 0) fail(all->where);
  set_non_blocking(all->wire);
}

static void listen_on(simulator *all) {
  struct sockaddr_un local = {0};
  struct sockaddr_in loopback = {0};
  const struct sockaddr *address = (const struct sockaddr *)&local;
  socklen_t size = sizeof local;
  int is_on = 1;
  if (all->kind == UNIX_SOCKET) {
    local.sun_family = AF_UNIX;
    if (strlen(all->where) >= sizeof local.sun_path) fail("the path is too long");
    strcpy(local.sun_path, all->where);
    (void)unlink(all->where);
  } else {
    loopback.sin_family = AF_INET;
    loopback.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    loopback.sin_port = htons((uint16_t)atoi(all->where));
    address = (const struct sockaddr *)&loopback;
    size = sizeof loopback;
  }
  all->listener = socket(address->sa_family, SOCK_STREAM, 0);
  if (all->listener < 0) fail("socket");
  (void)setsockopt(all->listener, SOL_SOCKET, SO_REUSEADDR, &is_on, sizeof is_on);
  if (bind(all->listener, address, size) != 0 || listen(all->listener, 1) != 0) fail(all->where);
  if (all->kind == TCP_SOCKET && getsockname(all->listener, (struct sockaddr *)&loopback, &size) == 0)
    printf("port %d\n", ntohs(loopback.sin_port));
}

static void plug(simulator *all) {
  if (all->kind == PTY) open_pty(all);
  else listen_on(all);
  printf("ready %s\n", all->where);
}

static void close_all(int *descriptor) {
  if (*descriptor >= 0) (void)close(*descriptor);
  *descriptor = -1;
}

static void unplug(simulator *all) {
  if (all->kind != TCP_SOCKET) (void)unlink(all->where);
  close_all(&all->wire);
  close_all(&all->other_end);
  close_all(&all->listener);
}

static void put_on_wire(simulator *all, uint8_t byte) {
  /* With nobody there, or nobody who reads, bytes are lost as on a real wire. */
  if (all->wire >= 0) (void)!write(all->wire, &byte, 1);
  if (all->reset_after > 0) all->reset_after--;
}

static int digit(char c) {
  return c <= '9' ? c - '0' : (c | 0x20) - 'a' + 10;
}

static void obey(simulator *all, const char *line) {
  if (strcmp(line, "reset") == 0) {
    booted_ms = now_ms();
    boot(all);
  } else if (strncmp(line, "reset-after ", 12) == 0) {
    all->reset_after = atol(line + 12);
  } else if (strcmp(line, "unplug") == 0) {
    unplug(all);
    printf("unplugged\n");
  } else if (strcmp(line, "plug") == 0) {
    plug(all);
  } else if (strncmp(line, "button ", 7) == 0) {
    button = line[7] == '1';
  } else if (strncmp(line, "send ", 5) == 0) {
    for (const char *hex = line + 5; hex[0] != '\0' && hex[1] != '\0'; hex += 2)
      put_on_wire(all, (uint8_t)(digit(hex[0]) * 16 + digit(hex[1])));
  } else if (strncmp(line, "log ", 4) == 0) {
    (void)dpe_bridge_log(&all->bridge, line + 4, strlen(line + 4));
  } else if (strcmp(line, "quit") == 0) {
    is_over = 1;
  }
}

static void read_commands(simulator *all) {
  char byte;
  ssize_t got;
  while ((got = read(STDIN_FILENO, &byte, 1)) == 1) {
    if (byte != '\n') {
      if (all->line_length < LINE_SIZE - 1) all->line[all->line_length++] = byte;
      continue;
    }
    all->line[all->line_length] = '\0';
    all->line_length = 0;
    obey(all, all->line);
  }
  /* Without whoever started it there is nothing to go on for. */
  if (got == 0) is_over = 1;
}

/* Tells of the Acknowledgement that the bridge is about to see. */
static void watch(simulator *all, uint8_t byte) {
  int length = dpe_decoder_push(&all->watcher, all->watched, sizeof all->watched, byte);
  uint8_t awaited = all->bridge.awaited;
  if (length != 4 || all->watched[0] != 0x60 || awaited >= all->property_count) return;
  if (((all->watched[2] << 8) | all->watched[3]) != all->bridge.awaited_id) return;
  printf("acknowledged %s %ld\n", all->properties[awaited].name, (long)all->states[awaited].sent);
}

static void read_wire(simulator *all) {
  uint8_t bytes[RING_SIZE / 2];
  ssize_t got = read(all->wire, bytes, sizeof bytes);
  for (ssize_t index = 0; index < got; index++) {
    watch(all, bytes[index]);
    dpe_bridge_receive(&all->bridge, bytes[index]);
  }
  if (got == 0 && all->kind != PTY) close_all(&all->wire);
}

static void run_bridge(simulator *all) {
  uint8_t byte;
  int has_more = dpe_bridge_poll(&all->bridge, now_ms());
  while (has_more != 0 && all->reset_after != 0 && dpe_bridge_transmit(&all->bridge, &byte) != 0) put_on_wire(all, byte);
  if (all->reset_after == 0) obey(all, "reset");
}

static void on_signal(int number) {
  (void)number;
  is_over = 1;
}

static int usage(void) {
  fprintf(stderr, "usage: dpe-simulator --pty LINK | --unix PATH | --tcp PORT [--counter MS]\n");
  return 2;
}

int main(int count, char **words) {
  static simulator all;
  struct sigaction action = {0};
  all.kind = -1;
  all.listener = -1;
  all.wire = -1;
  all.other_end = -1;
  for (int index = 1; index + 1 < count; index += 2) {
    const char *name = words[index];
    if (strcmp(name, "--counter") == 0) {
      all.counter_ms = (uint32_t)atoi(words[index + 1]);
      if (all.counter_ms == 0) return usage();
      continue;
    }
    if (strcmp(name, "--pty") == 0) all.kind = PTY;
    else if (strcmp(name, "--unix") == 0) all.kind = UNIX_SOCKET;
    else if (strcmp(name, "--tcp") == 0) all.kind = TCP_SOCKET;
    else return usage();
    all.where = words[index + 1];
  }
  if (all.kind < 0 || count % 2 == 0) return usage();
  action.sa_handler = on_signal;
  (void)sigaction(SIGTERM, &action, NULL);
  (void)sigaction(SIGINT, &action, NULL);
  action.sa_handler = SIG_IGN;
  (void)sigaction(SIGPIPE, &action, NULL);
  (void)setvbuf(stdout, NULL, _IOLBF, 0);
  set_non_blocking(STDIN_FILENO);
  memcpy(all.properties, firmware_properties, sizeof firmware_properties);
  all.property_count = FIRMWARE_PROPERTIES;
  if (all.counter_ms != 0) {
    const dpe_property counter = {.name = "counter", .flags = DPE_OBSERVABLE, .get = get_counter, .context = &all};
    all.properties[all.property_count++] = counter;
  }
  booted_ms = now_ms();
  boot(&all);
  plug(&all);
  while (is_over == 0) {
    struct pollfd watched[3] = {
        {.fd = STDIN_FILENO, .events = POLLIN},
        {.fd = all.wire, .events = POLLIN},
        {.fd = all.wire < 0 ? all.listener : -1, .events = POLLIN},
    };
    (void)poll(watched, 3, 2);
    if (watched[0].revents != 0) read_commands(&all);
    if (watched[2].revents != 0 && all.listener >= 0) {
      all.wire = accept(all.listener, NULL, NULL);
      if (all.wire >= 0) set_non_blocking(all.wire);
    } else if (watched[1].revents != 0 && all.wire >= 0) {
      read_wire(&all);
    }
    run_bridge(&all);
  }
  unplug(&all);
  return 0;
}
