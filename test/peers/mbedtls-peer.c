/*
 * A DTLS 1.2 peer on mbedTLS 2.28, for the interoperability tests.
 *
 *   mbedtls-peer client|server PORT SUITE psk IDENTITY KEY
 *   mbedtls-peer client|server PORT SUITE certificate CERTIFICATE KEY CA
 *
 * SUITE is mbedTLS's name of the one suite that is offered or taken; KEY of a PSK is text. Certificates are demanded of the
 * other side, and verified up to CA. The client sends a line to 127.0.0.1:PORT, again each second until it is answered,
 * prints the answer and ends. The server prints "ready", serves one client after the other, and sends back what it receives.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <mbedtls/ctr_drbg.h>
#include <mbedtls/entropy.h>
#include <mbedtls/net_sockets.h>
#include <mbedtls/ssl.h>
#include <mbedtls/ssl_cookie.h>
#include <mbedtls/timing.h>

static mbedtls_entropy_context entropy;
static mbedtls_ctr_drbg_context drbg;
static mbedtls_ssl_config config;
static mbedtls_ssl_context ssl;
static mbedtls_ssl_cookie_ctx cookies;
static mbedtls_timing_delay_context timer;
static mbedtls_x509_crt certificate, authority;
static mbedtls_pk_context key;

static void require(int status, const char *what) {
  if (status == 0) return;
  fprintf(stderr, "%s: -0x%04x\n", what, (unsigned)-status);
  exit(1);
}

static void configure(int role, int argc, char **argv) {
  static int suites[2];
  mbedtls_entropy_init(&entropy);
  mbedtls_ctr_drbg_init(&drbg);
  mbedtls_ssl_config_init(&config);
  mbedtls_ssl_init(&ssl);
  mbedtls_ssl_cookie_init(&cookies);
  mbedtls_x509_crt_init(&certificate);
  mbedtls_x509_crt_init(&authority);
  mbedtls_pk_init(&key);
  require(mbedtls_ctr_drbg_seed(&drbg, mbedtls_entropy_func, &entropy, NULL, 0), "seed");
  require(mbedtls_ssl_config_defaults(&config, role, MBEDTLS_SSL_TRANSPORT_DATAGRAM, MBEDTLS_SSL_PRESET_DEFAULT),
          "defaults");
  mbedtls_ssl_conf_rng(&config, mbedtls_ctr_drbg_random, &drbg);
  mbedtls_ssl_conf_read_timeout(&config, 1000);
  suites[0] = mbedtls_ssl_get_ciphersuite_id(argv[3]);
  if (suites[0] == 0) require(-1, "no such suite");
  mbedtls_ssl_conf_ciphersuites(&config, suites);
  if (strcmp(argv[4], "psk") == 0 && argc == 7) {
    require(mbedtls_ssl_conf_psk(&config, (const unsigned char *)argv[6], strlen(argv[6]),
                                 (const unsigned char *)argv[5], strlen(argv[5])),
            "psk");
  } else if (strcmp(argv[4], "certificate") == 0 && argc == 8) {
    require(mbedtls_x509_crt_parse_file(&certificate, argv[5]), argv[5]);
    require(mbedtls_pk_parse_keyfile(&key, argv[6], NULL), argv[6]);
    require(mbedtls_x509_crt_parse_file(&authority, argv[7]), argv[7]);
    require(mbedtls_ssl_conf_own_cert(&config, &certificate, &key), "own certificate");
    mbedtls_ssl_conf_ca_chain(&config, &authority, NULL);
    mbedtls_ssl_conf_authmode(&config, MBEDTLS_SSL_VERIFY_REQUIRED);
  } else {
    require(-1, "arguments");
  }
  require(mbedtls_ssl_cookie_setup(&cookies, mbedtls_ctr_drbg_random, &drbg), "cookie");
  mbedtls_ssl_conf_dtls_cookies(&config, mbedtls_ssl_cookie_write, mbedtls_ssl_cookie_check, &cookies);
  require(mbedtls_ssl_setup(&ssl, &config), "setup");
  mbedtls_ssl_set_timer_cb(&ssl, &timer, mbedtls_timing_set_delay, mbedtls_timing_get_delay);
}

static int handshake(void) {
  int status;
  do status = mbedtls_ssl_handshake(&ssl);
  while (status == MBEDTLS_ERR_SSL_WANT_READ || status == MBEDTLS_ERR_SSL_WANT_WRITE);
  return status;
}

static void run_client(const char *port) {
  static const unsigned char line[] = "hello out there\n";
  unsigned char answer[256];
  int length;
  mbedtls_net_context net;
  mbedtls_net_init(&net);
  require(mbedtls_net_connect(&net, "127.0.0.1", port, MBEDTLS_NET_PROTO_UDP), "connect");
  mbedtls_ssl_set_bio(&ssl, &net, mbedtls_net_send, mbedtls_net_recv, mbedtls_net_recv_timeout);
  require(handshake(), "handshake");
  printf("connected by %s\n", mbedtls_ssl_get_ciphersuite(&ssl));
  do {
    mbedtls_ssl_write(&ssl, line, sizeof line - 1);
    length = mbedtls_ssl_read(&ssl, answer, sizeof answer);
  } while (length == MBEDTLS_ERR_SSL_TIMEOUT || length == MBEDTLS_ERR_SSL_WANT_READ);
  if (length <= 0) require(length == 0 ? -1 : length, "read");
  fwrite(answer, 1, (size_t)length, stdout);
  mbedtls_ssl_close_notify(&ssl);
}

static void run_server(const char *port) {
  mbedtls_net_context listener, net;
  unsigned char address[16], message[256];
  size_t address_bytes;
  int status;
  mbedtls_net_init(&listener);
  require(mbedtls_net_bind(&listener, "127.0.0.1", port, MBEDTLS_NET_PROTO_UDP), "bind");
  puts("ready");
  fflush(stdout);
  for (;;) {
    mbedtls_net_init(&net);
    require(mbedtls_net_accept(&listener, &net, address, sizeof address, &address_bytes), "accept");
    mbedtls_ssl_session_reset(&ssl);
    require(mbedtls_ssl_set_client_transport_id(&ssl, address, address_bytes), "address");
    mbedtls_ssl_set_bio(&ssl, &net, mbedtls_net_send, mbedtls_net_recv, mbedtls_net_recv_timeout);
    status = handshake();
    if (status == 0) {
      printf("connected by %s\n", mbedtls_ssl_get_ciphersuite(&ssl));
      fflush(stdout);
      do {
        status = mbedtls_ssl_read(&ssl, message, sizeof message);
        if (status > 0) mbedtls_ssl_write(&ssl, message, (size_t)status);
      } while (status > 0 || status == MBEDTLS_ERR_SSL_TIMEOUT || status == MBEDTLS_ERR_SSL_WANT_READ);
    } else if (status != MBEDTLS_ERR_SSL_HELLO_VERIFY_REQUIRED) {
      fprintf(stderr, "handshake: -0x%04x\n", (unsigned)-status);
    }
    mbedtls_net_free(&net);
  }
}

int main(int argc, char **argv) {
  int is_server = argc > 4 && strcmp(argv[1], "server") == 0;
  if (argc < 7) require(-1, "arguments");
  configure(is_server ? MBEDTLS_SSL_IS_SERVER : MBEDTLS_SSL_IS_CLIENT, argc, argv);
  if (is_server) run_server(argv[2]);
  else run_client(argv[2]);
  return 0;
}
