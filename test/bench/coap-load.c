/*
 * A CoAP load generator on OpenSSL, made to be no bottleneck: one thread, epoll, N sessions with M outstanding
 * Confirmable GETs each.
 *
 *   coap-load get       PORT PATH SESSIONS OUTSTANDING SECONDS          plain UDP
 *   coap-load gets      PORT PATH SESSIONS OUTSTANDING SECONDS ID KEY   DTLS, PSK-AES128-CCM8
 *   coap-load handshake PORT SECONDS ID KEY                             full handshakes, one after the other
 *   coap-load idle      PORT SESSIONS ID KEY                            opens sessions, prints READY, holds until stdin ends
 *
 * Prints the number of answers, or handshakes, per second. 127.0.0.1 only.
 */
#include <arpa/inet.h>
#include <fcntl.h>
#include <openssl/ssl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <time.h>
#include <unistd.h>

enum { MAX_SESSIONS = 20000, MAX_MESSAGE = 1500 };

struct session {
    int fd;
    SSL *ssl;
    unsigned short message_id;
};

static const char *psk_identity;
static const char *psk_key;
static const char *path;
static struct session sessions[MAX_SESSIONS];

static double now(void) {
    struct timespec time;
    clock_gettime(CLOCK_MONOTONIC, &time);
    return (double)time.tv_sec + (double)time.tv_nsec / 1e9;
}

static void fail(const char *what) {
    fprintf(stderr, "coap-load: %s\n", what);
    exit(1);
}

static unsigned int psk_client(SSL *ssl, const char *hint, char *identity, unsigned int identity_size, unsigned char *psk,
                               unsigned int psk_size) {
    (void)ssl;
    (void)hint;
    size_t length = strlen(psk_key);
    if (strlen(psk_identity) >= identity_size || length > psk_size) return 0;
    strcpy(identity, psk_identity);
    memcpy(psk, psk_key, length);
    return (unsigned int)length;
}

static SSL_CTX *context(void) {
    SSL_CTX *made = SSL_CTX_new(DTLS_client_method());
    if (made == NULL || SSL_CTX_set_cipher_list(made, "PSK-AES128-CCM8:@SECLEVEL=0") != 1) fail("no PSK-AES128-CCM8");
    SSL_CTX_set_psk_client_callback(made, psk_client);
    /* Every handshake is to be a full one. */
    SSL_CTX_set_options(made, SSL_OP_NO_TICKET);
    SSL_CTX_set_session_cache_mode(made, SSL_SESS_CACHE_OFF);
    return made;
}

static int connected_socket(int port) {
    struct sockaddr_in to = {.sin_family = AF_INET, .sin_port = htons((unsigned short)port)};
    to.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    int fd = socket(AF_INET, SOCK_DGRAM, 0);
    if (fd < 0 || connect(fd, (struct sockaddr *)&to, sizeof to) != 0) fail("no socket");
    return fd;
}

static void open_session(struct session *session, SSL_CTX *secure, int port, int number) {
    session->fd = connected_socket(port);
    session->ssl = NULL;
    session->message_id = (unsigned short)(number * 257);
    if (secure == NULL) return;
    struct sockaddr_in to = {.sin_family = AF_INET, .sin_port = htons((unsigned short)port)};
    to.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    BIO *bio = BIO_new_dgram(session->fd, BIO_NOCLOSE);
    BIO_ctrl(bio, BIO_CTRL_DGRAM_SET_CONNECTED, 0, &to);
    struct timeval timeout = {5, 0};
    BIO_ctrl(bio, BIO_CTRL_DGRAM_SET_RECV_TIMEOUT, 0, &timeout);
    session->ssl = SSL_new(secure);
    SSL_set_bio(session->ssl, bio, bio);
    if (SSL_connect(session->ssl) != 1) fail("a handshake failed");
}

static void close_session(struct session *session) {
    if (session->ssl != NULL) {
        SSL_shutdown(session->ssl);
        SSL_free(session->ssl);
    }
    close(session->fd);
}

static void send_request(struct session *session) {
    unsigned char message[64];
    size_t length = strlen(path);
    unsigned short id = session->message_id++;
    size_t size = 0;
    message[size++] = 0x42;
    message[size++] = 0x01;
    message[size++] = (unsigned char)(id >> 8);
    message[size++] = (unsigned char)id;
    message[size++] = (unsigned char)(id >> 8);
    message[size++] = (unsigned char)id;
    message[size++] = (unsigned char)(0xb0 | length);
    memcpy(message + size, path, length);
    size += length;
    if (session->ssl != NULL) SSL_write(session->ssl, message, (int)size);
    else if (send(session->fd, message, size, 0) < 0) fail("send failed");
}

static long receive_all(struct session *session) {
    unsigned char message[MAX_MESSAGE];
    long received = 0;
    for (;;) {
        ssize_t size = session->ssl != NULL ? SSL_read(session->ssl, message, sizeof message)
                                            : recv(session->fd, message, sizeof message, MSG_DONTWAIT);
        if (size <= 0) return received;
        if (size < 4 || message[1] != 0x45) fail("an answer that is not 2.05");
        received++;
        send_request(session);
    }
}

static void load(SSL_CTX *secure, int port, int count, int outstanding, double seconds) {
    int queue = epoll_create1(0);
    for (int i = 0; i < count; i++) {
        open_session(&sessions[i], secure, port, i);
        fcntl(sessions[i].fd, F_SETFL, O_NONBLOCK);
        struct epoll_event event = {.events = EPOLLIN, .data.ptr = &sessions[i]};
        epoll_ctl(queue, EPOLL_CTL_ADD, sessions[i].fd, &event);
    }
    for (int i = 0; i < count * outstanding; i++) send_request(&sessions[i % count]);
    struct epoll_event events[64];
    double start = now();
    long answers = 0;
    while (now() - start < seconds) {
        int ready = epoll_wait(queue, events, 64, 2000);
        if (ready == 0) fail("no answer within 2 s");
        for (int i = 0; i < ready; i++) answers += receive_all(events[i].data.ptr);
    }
    printf("%.0f\n", (double)answers / (now() - start));
    for (int i = 0; i < count; i++) close_session(&sessions[i]);
}

static void handshakes(SSL_CTX *secure, int port, double seconds) {
    double start = now();
    long count = 0;
    while (now() - start < seconds) {
        open_session(&sessions[0], secure, port, 0);
        close_session(&sessions[0]);
        count++;
    }
    printf("%.1f\n", (double)count / (now() - start));
}

static void idle(SSL_CTX *secure, int port, int count) {
    for (int i = 0; i < count; i++) open_session(&sessions[i], secure, port, i);
    printf("READY\n");
    fflush(stdout);
    while (getchar() != EOF) continue;
    for (int i = 0; i < count; i++) close_session(&sessions[i]);
}

int main(int argc, char **argv) {
    const char *mode = argc > 1 ? argv[1] : "";
    if (strcmp(mode, "get") == 0 && argc == 7) {
        path = argv[3];
        if (strlen(path) > 12) fail("the path has 12 characters at most");
        load(NULL, atoi(argv[2]), atoi(argv[4]), atoi(argv[5]), atof(argv[6]));
    } else if (strcmp(mode, "gets") == 0 && argc == 9) {
        path = argv[3];
        if (strlen(path) > 12) fail("the path has 12 characters at most");
        psk_identity = argv[7];
        psk_key = argv[8];
        load(context(), atoi(argv[2]), atoi(argv[4]), atoi(argv[5]), atof(argv[6]));
    } else if (strcmp(mode, "handshake") == 0 && argc == 6) {
        psk_identity = argv[4];
        psk_key = argv[5];
        handshakes(context(), atoi(argv[2]), atof(argv[3]));
    } else if (strcmp(mode, "idle") == 0 && argc == 6) {
        psk_identity = argv[4];
        psk_key = argv[5];
        if (atoi(argv[3]) > MAX_SESSIONS) fail("too many sessions");
        idle(context(), atoi(argv[2]), atoi(argv[3]));
    } else {
        fail("get PORT PATH SESSIONS OUTSTANDING SECONDS | gets … ID KEY | handshake PORT SECONDS ID KEY | idle PORT SESSIONS ID KEY");
    }
    return 0;
}
