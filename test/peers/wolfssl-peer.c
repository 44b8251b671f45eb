/*
 * A DTLS 1.2 peer on wolfSSL 5, for the interoperability tests.
 *
 *   wolfssl-peer client|server PORT SUITE psk IDENTITY KEY
 *   wolfssl-peer client|server PORT SUITE certificate CERTIFICATE KEY CA
 *
 * As mbedtls-peer.c beside it; SUITE is wolfSSL's name. wolfSSL 5.5 does not send its last flight again once it has
 * finished, so the server forgets a client that says nothing for five seconds: it may begin anew.
 */
#include <wolfssl/options.h>
#include <wolfssl/ssl.h>

#include <arpa/inet.h>
#include <fcntl.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>

static const char *psk_identity, *psk_key;

static void require(int is_met, const char *what) {
  if (is_met) return;
  fprintf(stderr, "%s\n", what);
  exit(1);
}

static unsigned int copy_key(unsigned char *key, unsigned int capacity) {
  size_t length = strlen(psk_key);
  if (length > capacity) return 0;
  memcpy(key, psk_key, length);
  return (unsigned int)length;
}

static unsigned int client_psk(WOLFSSL *ssl, const char *hint, char *identity, unsigned int identity_capacity,
                               unsigned char *key, unsigned int key_capacity) {
  (void)ssl;
  (void)hint;
  if (strlen(psk_identity) >= identity_capacity) return 0;
  strcpy(identity, psk_identity);
  return copy_key(key, key_capacity);
}

static unsigned int server_psk(WOLFSSL *ssl, const char *identity, unsigned char *key, unsigned int capacity) {
  (void)ssl;
  return strcmp(identity, psk_identity) == 0 ? copy_key(key, capacity) : 0;
}

static WOLFSSL_CTX *configure(int is_server, int argc, char **argv) {
  WOLFSSL_CTX *context = wolfSSL_CTX_new(is_server ? wolfDTLSv1_2_server_method() : wolfDTLSv1_2_client_method());
  require(context != NULL, "context");
  require(wolfSSL_CTX_set_cipher_list(context, argv[3]) == WOLFSSL_SUCCESS, "no such suite");
  if (strcmp(argv[4], "psk") == 0 && argc == 7) {
    psk_identity = argv[5];
    psk_key = argv[6];
    wolfSSL_CTX_set_psk_client_callback(context, client_psk);
    wolfSSL_CTX_set_psk_server_callback(context, server_psk);
  } else if (strcmp(argv[4], "certificate") == 0 && argc == 8) {
    require(wolfSSL_CTX_use_certificate_chain_file(context, argv[5]) == WOLFSSL_SUCCESS, argv[5]);
    require(wolfSSL_CTX_use_PrivateKey_file(context, argv[6], WOLFSSL_FILETYPE_PEM) == WOLFSSL_SUCCESS, argv[6]);
    require(wolfSSL_CTX_load_verify_locations(context, argv[7], NULL) == WOLFSSL_SUCCESS, argv[7]);
    wolfSSL_CTX_set_verify(context, WOLFSSL_VERIFY_PEER | WOLFSSL_VERIFY_FAIL_IF_NO_PEER_CERT, NULL);
  } else {
    require(0, "arguments");
  }
  return context;
}

static struct sockaddr_in loopback(const char *port) {
  struct sockaddr_in address = {.sin_family = AF_INET, .sin_port = htons((unsigned short)atoi(port))};
  address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  return address;
}

static void report(WOLFSSL *ssl, const char *what, int status) {
  char text[WOLFSSL_MAX_ERROR_SZ];
  fprintf(stderr, "%s: %s\n", what, wolfSSL_ERR_error_string((unsigned long)wolfSSL_get_error(ssl, status), text));
}

/* Waits for a datagram; 0 when none came in time. */
static int wait_for_datagram(int descriptor, int seconds) {
  struct pollfd waiting = {.fd = descriptor, .events = POLLIN};
  return poll(&waiting, 1, seconds * 1000) > 0;
}

/* A session on a socket that does not block; its timer is driven by wait_for_datagram. */
static WOLFSSL *open_session(WOLFSSL_CTX *context, int descriptor, struct sockaddr_in *other) {
  WOLFSSL *ssl = wolfSSL_new(context);
  require(ssl != NULL, "session");
  wolfSSL_dtls_set_peer(ssl, other, sizeof *other);
  wolfSSL_dtls_set_using_nonblock(ssl, 1);
  wolfSSL_set_fd(ssl, descriptor);
  return ssl;
}

static int handshake(WOLFSSL *ssl, int descriptor) {
  for (;;) {
    int status = wolfSSL_negotiate(ssl);
    if (status == WOLFSSL_SUCCESS) {
      printf("connected by %s\n", wolfSSL_get_cipher(ssl));
      fflush(stdout);
      return 1;
    }
    if (wolfSSL_get_error(ssl, status) != WOLFSSL_ERROR_WANT_READ ||
        (!wait_for_datagram(descriptor, wolfSSL_dtls_get_current_timeout(ssl)) &&
         wolfSSL_dtls_got_timeout(ssl) != WOLFSSL_SUCCESS)) {
      report(ssl, "handshake", status);
      return 0;
    }
  }
}

static int is_waiting(WOLFSSL *ssl, int status) {
  return status <= 0 && wolfSSL_get_error(ssl, status) == WOLFSSL_ERROR_WANT_READ;
}

static void run_client(WOLFSSL_CTX *context, int descriptor, const char *port) {
  static const char line[] = "hello out there\n";
  struct sockaddr_in server = loopback(port);
  char answer[256];
  int length;
  WOLFSSL *ssl = open_session(context, descriptor, &server);
  if (!handshake(ssl, descriptor)) exit(1);
  do {
    wolfSSL_write(ssl, line, (int)sizeof line - 1);
    do length = wolfSSL_read(ssl, answer, sizeof answer);
    while (is_waiting(ssl, length) && wait_for_datagram(descriptor, 1));
  } while (is_waiting(ssl, length));
  if (length <= 0) {
    report(ssl, "read", length);
    exit(1);
  }
  fwrite(answer, 1, (size_t)length, stdout);
  wolfSSL_shutdown(ssl);
}

static void run_server(WOLFSSL_CTX *context, int descriptor, const char *port) {
  struct sockaddr_in own = loopback(port), client;
  char message[256];
  require(bind(descriptor, (struct sockaddr *)&own, sizeof own) == 0, "bind");
  puts("ready");
  fflush(stdout);
  for (;;) {
    socklen_t client_bytes = sizeof client;
    WOLFSSL *ssl;
    while (recvfrom(descriptor, message, sizeof message, MSG_PEEK, (struct sockaddr *)&client, &client_bytes) < 0)
      wait_for_datagram(descriptor, 60);
    ssl = open_session(context, descriptor, &client);
    if (handshake(ssl, descriptor)) {
      time_t heard = time(NULL);
      int status;
      do {
        status = wolfSSL_read(ssl, message, sizeof message);
        if (status > 0) {
          wolfSSL_write(ssl, message, status);
          heard = time(NULL);
        } else if (is_waiting(ssl, status)) {
          wait_for_datagram(descriptor, 1);
        }
      } while ((status > 0 || is_waiting(ssl, status)) && time(NULL) - heard < 5);
    }
    wolfSSL_free(ssl);
  }
}

int main(int argc, char **argv) {
  int is_server = argc > 4 && strcmp(argv[1], "server") == 0;
  int descriptor = socket(AF_INET, SOCK_DGRAM, 0);
  WOLFSSL_CTX *context;
  require(argc >= 7, "arguments");
  require(descriptor >= 0 && fcntl(descriptor, F_SETFL, O_NONBLOCK) == 0, "socket");
  wolfSSL_Init();
  context = configure(is_server, argc, argv);
  if (is_server) run_server(context, descriptor, argv[2]);
  else run_client(context, descriptor, argv[2]);
  return 0;
}
