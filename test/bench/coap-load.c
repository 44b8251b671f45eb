/*
 * A CoAP load generator on OpenSSL, made to be no bottleneck: one thread, epoll, and datagrams received and sent in
 * batches. It speaks to 127.0.0.1 only. What it measures it checks: every answer must be the Acknowledgement with 2.05 of
 * a request in flight, and carry the payload that is expected.
 *
 *   coap-load get -p PORT [-r PATH] [-e PAYLOAD]   Confirmable GETs; counts answers
 *   coap-load handshake -p PORT                    full handshakes, each from a new port; counts those completed
 *   coap-load idle -p PORT                         opens sessions, prints READY, holds them until standard input ends
 *   coap-load observe -p PORT                      opens sessions of `none` with OUTSTANDING observations in each; prints READY, then
 *                                                  a line for each round, when all have been notified: acknowledges what is Confirmable
 *   coap-load report -p PORT                       registers each session as an endpoint `bench-N` of DPE-1 and reports a reading of it in
 *                                                  SenML, Confirmable, one at a time; counts what was answered with 2.04
 *   coap-load hello -p PORT                        ClientHellos without a cookie, each of another random and port, that go no
 *                                                  further, as spoofed ones do not; counts them, and the bytes both ways
 *
 *   -n SESSIONS (8)     in `handshake` and `hello`, how many at a time
 *   -o OUTSTANDING (4)  requests in flight in each session
 *   -w COUNT (0)        answers or handshakes that are passed over before it counts: a compiler that works while its program
 *                       runs goes by these, not by time
 *   -R RATE (0)         `report`: so many a second of all sessions together, each at its time whether or not those before it were
 *                       answered quickly, its latency counted from that time on; 0: each as soon as the one before it is answered
 *   -C                  `observe`: Confirmable requests, which make Confirmable notifications
 *   -t SECONDS (3)      counts for so long
 *   -P PID              the server: its processor time within the measured time is reported too
 *   -s none|psk|ecdsa   plain UDP, TLS_PSK_WITH_AES_128_CCM_8 or TLS_ECDHE_ECDSA_WITH_AES_128_CCM_8 on P-256
 *   -u IDENTITY -k KEY  of the PSK
 *   -c FILE -j FILE     the client's certificate and its key, for servers that ask for one
 *
 * It polls without waiting: a datagram to a process that sleeps on another core costs its sender the waking. "idle" is the
 * share of polls that found nothing; near 0, the loader is what was measured. `report` sleeps instead, since a database may
 * share its core: there "idle" is the share of the time that this program did not run.
 *
 * Prints one line: {"count", "seconds", "retransmissions", "idle", "serverCpuSeconds", "bytesOut", "bytesIn"}; the bytes are
 * those of `hello`. `report` adds "latencyMs": the median, 90 %, 99 % and the longest.
 * Ends with status 1, and a sentence, when nothing arrives for 10 s, a handshake fails or an answer is wrong.
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <openssl/err.h>
#include <openssl/ssl.h>
#include <poll.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

enum {
    MAX_SESSIONS = 19000,
    MAX_OUTSTANDING = 32,
    BATCH = 32,
    DATAGRAM_BYTES = 1500,
    MTU = 1400,
    PATH_BYTES = 12, /* a length that fits the first byte of an option */
    OPENING_AT_ONCE = 16,
    ID_BYTES = 12, /* of a registration */
    REPORT_BYTES = 64
};
static const double RETRANSMIT_SECONDS = 2, SILENCE_SECONDS = 10;

struct session {
    int fd;
    SSL *ssl;
    int is_open;
    unsigned short next_id;
    unsigned short ids[MAX_OUTSTANDING]; /* the message ID in flight, by slot; the slot is the token */
    double sent_at[MAX_OUTSTANDING];
    const unsigned char *datagram; /* received, not read yet */
    int datagram_bytes;
    /* of `report` */
    char id[ID_BYTES + 1];
    unsigned char message[REPORT_BYTES]; /* what is in flight, to be sent again where it is lost */
    int message_bytes;
    int is_answered; /* of the one in flight: the next one may be sent */
    unsigned int reports;
};

static struct {
    int port, count, outstanding, server_pid, is_confirmable;
    long warmup;
    double seconds, rate;
    const char *path, *payload, *security, *identity, *key, *certificate, *certificate_key;
} option = {0, 8, 4, 0, 0, 0, 3, 0, "b", "hello", "none", "", "", NULL, NULL};

static struct session sessions[MAX_SESSIONS];
static SSL_CTX *context;
static BIO_METHOD *method;
static int queue;
static double now;
static int is_observing, is_reporting;
static long answers, opened, retransmissions, polls, idle_polls;

/* Datagrams that wait to be sent on one socket. */
static unsigned char out_bytes[BATCH][DATAGRAM_BYTES];
static struct iovec out_parts[BATCH];
static struct mmsghdr out[BATCH];
static int out_count;

static void fail(const char *format, ...) {
    va_list arguments;
    va_start(arguments, format);
    fputs("coap-load: ", stderr);
    vfprintf(stderr, format, arguments);
    fputc('\n', stderr);
    va_end(arguments);
    ERR_print_errors_fp(stderr);
    exit(1);
}

static void read_clock(void) {
    struct timespec time;
    clock_gettime(CLOCK_MONOTONIC, &time);
    now = (double)time.tv_sec + (double)time.tv_nsec / 1e9;
}

/* ---- datagrams ---- */

static void flush(struct session *session) {
    for (int sent = 0; sent < out_count;) {
        int done = sendmmsg(session->fd, out + sent, (unsigned int)(out_count - sent), 0);
        if (done < 0 && errno != EAGAIN && errno != EINTR) fail("sending: %s", strerror(errno));
        if (done > 0) sent += done;
    }
    out_count = 0;
}

static void queue_datagram(struct session *session, const void *bytes, size_t size) {
    if (size > DATAGRAM_BYTES) fail("a datagram of %zu bytes", size);
    if (out_count == BATCH) flush(session);
    memcpy(out_bytes[out_count], bytes, size);
    out_parts[out_count] = (struct iovec){out_bytes[out_count], size};
    out[out_count].msg_hdr = (struct msghdr){.msg_iov = &out_parts[out_count], .msg_iovlen = 1};
    out_count++;
}

/* ---- OpenSSL on those datagrams ---- */

static int bio_write(BIO *bio, const char *bytes, int size) {
    queue_datagram(BIO_get_data(bio), bytes, (size_t)size);
    return size;
}

static int bio_read(BIO *bio, char *bytes, int size) {
    struct session *session = BIO_get_data(bio);
    BIO_clear_retry_flags(bio);
    if (session->datagram == NULL) {
        BIO_set_retry_read(bio);
        return -1;
    }
    int taken = session->datagram_bytes < size ? session->datagram_bytes : size;
    memcpy(bytes, session->datagram, (size_t)taken);
    session->datagram = NULL;
    return taken;
}

static long bio_control(BIO *bio, int command, long number, void *pointer) {
    (void)bio, (void)number, (void)pointer;
    switch (command) {
    case BIO_CTRL_FLUSH: return 1;
    case BIO_CTRL_DGRAM_QUERY_MTU:
    case BIO_CTRL_DGRAM_GET_FALLBACK_MTU: return MTU;
    default: return 0;
    }
}

static unsigned int tell_psk(SSL *ssl, const char *hint, char *identity, unsigned int identity_size, unsigned char *key,
                             unsigned int key_size) {
    (void)ssl, (void)hint;
    size_t length = strlen(option.key);
    if (strlen(option.identity) >= identity_size || length > key_size) return 0;
    strcpy(identity, option.identity);
    memcpy(key, option.key, length);
    return (unsigned int)length;
}

static void prepare_dtls(void) {
    int is_psk = strcmp(option.security, "psk") == 0;
    if (!is_psk && strcmp(option.security, "ecdsa") != 0) fail("-s none|psk|ecdsa");
    const char *suite = is_psk ? "PSK-AES128-CCM8:@SECLEVEL=0" : "ECDHE-ECDSA-AES128-CCM8:@SECLEVEL=0";
    context = SSL_CTX_new(DTLS_client_method());
    if (context == NULL || SSL_CTX_set_cipher_list(context, suite) != 1) fail("no cipher suite %s", suite);
    if (is_psk) SSL_CTX_set_psk_client_callback(context, tell_psk);
    if (option.certificate != NULL &&
        (SSL_CTX_use_certificate_file(context, option.certificate, SSL_FILETYPE_PEM) != 1 ||
         SSL_CTX_use_PrivateKey_file(context, option.certificate_key, SSL_FILETYPE_PEM) != 1))
        fail("the client's certificate cannot be used");
    if (SSL_CTX_set1_groups_list(context, "P-256") != 1) fail("no P-256");
    /* The server's certificate is not what is measured, and every handshake is to be a full one. */
    SSL_CTX_set_verify(context, SSL_VERIFY_NONE, NULL);
    SSL_CTX_set_options(context, SSL_OP_NO_TICKET | SSL_OP_NO_QUERY_MTU);
    SSL_CTX_set_session_cache_mode(context, SSL_SESS_CACHE_OFF);
    method = BIO_meth_new(BIO_get_new_index() | BIO_TYPE_SOURCE_SINK, "batched datagrams");
    if (method == NULL) fail("no BIO method");
    BIO_meth_set_write(method, bio_write);
    BIO_meth_set_read(method, bio_read);
    BIO_meth_set_ctrl(method, bio_control);
}

/* ---- sessions ---- */

static void advance_handshake(struct session *session) {
    int result = SSL_connect(session->ssl);
    if (result == 1) {
        session->is_open = 1;
        opened++;
    } else if (SSL_get_error(session->ssl, result) != SSL_ERROR_WANT_READ) {
        fail("a handshake failed");
    }
    flush(session);
}

static void open_session(struct session *session) {
    struct sockaddr_in to = {.sin_family = AF_INET, .sin_port = htons((unsigned short)option.port)};
    to.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    memset(session, 0, sizeof *session);
    session->fd = socket(AF_INET, SOCK_DGRAM | SOCK_NONBLOCK, 0);
    if (session->fd < 0 || connect(session->fd, (struct sockaddr *)&to, sizeof to) != 0)
        fail("a socket: %s", strerror(errno));
    struct epoll_event event = {.events = EPOLLIN, .data.ptr = session};
    epoll_ctl(queue, EPOLL_CTL_ADD, session->fd, &event);
    if (context == NULL) {
        session->is_open = 1;
        opened++;
        return;
    }
    BIO *bio = BIO_new(method);
    session->ssl = SSL_new(context);
    if (bio == NULL || session->ssl == NULL) fail("no memory");
    BIO_set_data(bio, session);
    BIO_set_init(bio, 1);
    SSL_set_bio(session->ssl, bio, bio);
    SSL_set_mtu(session->ssl, MTU);
    advance_handshake(session);
}

static void close_session(struct session *session) {
    if (session->ssl != NULL) {
        SSL_shutdown(session->ssl);
        flush(session);
        SSL_free(session->ssl);
    }
    close(session->fd);
}

/* ---- requests ---- */

static void send_request(struct session *session, int slot) {
    unsigned char message[8 + PATH_BYTES];
    size_t length = strlen(option.path), size = 0;
    message[size++] = 0x41; /* version 1, Confirmable, a token of one byte */
    message[size++] = 0x01; /* GET */
    message[size++] = (unsigned char)(session->ids[slot] >> 8);
    message[size++] = (unsigned char)session->ids[slot];
    message[size++] = (unsigned char)slot;
    message[size++] = (unsigned char)(0xb0 | length); /* Uri-Path */
    memcpy(message + size, option.path, length);
    size += length;
    session->sent_at[slot] = now;
    if (session->ssl == NULL) queue_datagram(session, message, size);
    else if (SSL_write(session->ssl, message, (int)size) != (int)size) fail("a request could not be encrypted");
}

static void send_new_request(struct session *session, int slot) {
    session->ids[slot] = session->next_id++;
    send_request(session, slot);
}

/* An answer that comes twice, to a request that was sent again, is passed over. */
static void receive_answer(struct session *session, const unsigned char *message, int size) {
    if (size < 5 || message[0] != 0x61 || message[1] != 0x45) fail("an answer that is not a piggybacked 2.05");
    int slot = message[4];
    if (slot >= option.outstanding) fail("an answer with a foreign token");
    if (session->ids[slot] != (unsigned short)(message[2] << 8 | message[3])) return;
    size_t expected = strlen(option.payload);
    if ((size_t)size < 6 + expected || message[(size_t)size - expected - 1] != 0xff ||
        memcmp(message + (size_t)size - expected, option.payload, expected) != 0)
        fail("an answer with another payload");
    answers++;
    send_new_request(session, slot);
}

/* ---- observations ---- */

static void send_observe(struct session *session, int slot) {
    unsigned char message[8 + PATH_BYTES];
    size_t length = strlen(option.path), size = 0;
    message[size++] = option.is_confirmable ? 0x41 : 0x51;
    message[size++] = 0x01; /* GET */
    message[size++] = (unsigned char)(session->ids[slot] >> 8);
    message[size++] = (unsigned char)session->ids[slot];
    message[size++] = (unsigned char)slot;
    message[size++] = 0x60; /* Observe, 0 */
    message[size++] = (unsigned char)(0x50 | length); /* Uri-Path */
    memcpy(message + size, option.path, length);
    session->sent_at[slot] = now;
    queue_datagram(session, message, size + length);
}

/* The first 2.05 for a slot establishes its observation; each later one is a notification. */
static void receive_notification(struct session *session, const unsigned char *message, int size) {
    if (size < 5 || message[1] != 0x45 || message[4] >= option.outstanding) fail("a notification that is not a 2.05 of ours");
    if ((message[0] & 0xf0) == 0x40) {
        unsigned char acknowledgement[4] = {0x60, 0, message[2], message[3]};
        queue_datagram(session, acknowledgement, sizeof acknowledgement);
    }
    if (session->sent_at[message[4]] != 0) {
        session->sent_at[message[4]] = 0;
        opened++;
    } else {
        answers++;
    }
}

/* ---- reports ---- */

static void send_message(struct session *session, const unsigned char *message, int size) {
    if (session->ssl == NULL) queue_datagram(session, message, (size_t)size);
    else if (SSL_write(session->ssl, message, size) != size) fail("a message could not be encrypted");
}

static int add_bytes(unsigned char *message, int at, const void *bytes, size_t size) {
    memcpy(message + at, bytes, size);
    return at + (int)size;
}

/* A POST to /dpe1/reg, and further; its token is its message ID. Returns how long it is. */
static int begin_post(struct session *session) {
    unsigned char *message = session->message;
    session->ids[0] = session->next_id++;
    const unsigned char id[2] = {(unsigned char)(session->ids[0] >> 8), (unsigned char)session->ids[0]};
    int size = add_bytes(message, 0, "\x42\x02", 2); /* version 1, Confirmable, a token of two bytes; POST */
    size = add_bytes(message, size, id, 2);
    size = add_bytes(message, size, id, 2);
    return add_bytes(message, size, "\xb4" "dpe1" "\x03" "reg", 9); /* Uri-Path */
}

static void finish_post(struct session *session, int size) {
    session->message_bytes = size;
    session->is_answered = 0;
    session->sent_at[0] = now;
    send_message(session, session->message, size);
}

static void send_registration(struct session *session) {
    char endpoint[16];
    int length = snprintf(endpoint, sizeof endpoint, "ep=bench-%d", (int)(session - sessions));
    int size = begin_post(session);
    session->message[size++] = (unsigned char)(0x40 | length); /* Uri-Query */
    size = add_bytes(session->message, size, endpoint, (size_t)length);
    size = add_bytes(session->message, size, "\x07" "lt=3600", 8);
    finish_post(session, size);
}

static unsigned char *put_big_endian(unsigned char *to, unsigned long long value, int bytes) {
    while (bytes-- > 0) *to++ = (unsigned char)(value >> (8 * bytes));
    return to;
}

/* [{n: "count", v: …, t: …}] of RFC 8428 §6, with the time of day, in which no two of a session are alike. */
static void send_report(struct session *session) {
    struct timespec time;
    clock_gettime(CLOCK_REALTIME, &time);
    double seconds = (double)time.tv_sec + (double)time.tv_nsec / 1e9;
    unsigned long long bits;
    memcpy(&bits, &seconds, sizeof bits);
    int size = begin_post(session);
    session->message[size++] = (unsigned char)strlen(session->id);
    size = add_bytes(session->message, size, session->id, strlen(session->id));
    size = add_bytes(session->message, size, "\x01" "p" "\x11\x70\xff" "\x81\xa3\x00\x65" "count" "\x02\x1a", 16);
    unsigned char *end = put_big_endian(session->message + size, ++session->reports, 4);
    end += add_bytes(end, 0, "\x06\xfb", 2);
    end = put_big_endian(end, bits, 8);
    finish_post(session, (int)(end - session->message));
}

/* The third Location-Path is the id of the registration. */
static void read_location(struct session *session, const unsigned char *message, int size) {
    int at = 4 + (message[0] & 15), number = 0, segments = 0;
    while (at < size && message[at] != 0xff) {
        int length = message[at] & 15;
        number += message[at++] >> 4;
        if (length > ID_BYTES || at + length > size) fail("an option that is not expected");
        if (number == 8 && ++segments == 3) memcpy(session->id, message + at, (size_t)length);
        at += length;
    }
    if (session->id[0] == 0) fail("a registration without a location");
}

/* Piggybacked or separate; an empty Acknowledgement says that it takes longer. What comes twice is passed over. */
static void receive_reported(struct session *session, const unsigned char *message, int size) {
    if (size < 4) fail("a message that is cut off");
    int type = message[0] >> 4 & 3, id = message[2] << 8 | message[3];
    if (message[1] == 0) {
        if (type == 2 && id == session->ids[0]) session->sent_at[0] = 0;
        return;
    }
    if (type == 0) {
        const unsigned char acknowledgement[4] = {0x60, 0, message[2], message[3]};
        send_message(session, acknowledgement, sizeof acknowledgement);
    }
    if (size < 6 || (message[0] & 15) != 2) fail("an answer with a foreign token");
    if ((message[4] << 8 | message[5]) != session->ids[0] || session->is_answered) return;
    if (message[1] != (session->id[0] == 0 ? 0x41 : 0x44)) fail("an answer with code %d.%02d", message[1] >> 5, message[1] & 31);
    if (session->id[0] == 0) read_location(session, message, size);
    session->is_answered = 1;
    session->sent_at[0] = 0;
    answers++;
}

static void receive_message(struct session *session, const unsigned char *message, int size) {
    if (is_observing) receive_notification(session, message, size);
    else if (is_reporting) receive_reported(session, message, size);
    else receive_answer(session, message, size);
}

static void handle_datagram(struct session *session, const unsigned char *bytes, int size) {
    if (session->ssl == NULL) {
        receive_message(session, bytes, size);
        return;
    }
    session->datagram = bytes;
    session->datagram_bytes = size;
    if (!session->is_open) {
        advance_handshake(session);
        return;
    }
    unsigned char message[DATAGRAM_BYTES];
    for (int length; (length = SSL_read(session->ssl, message, sizeof message)) > 0;)
        receive_message(session, message, length);
}

static void handle_readable(struct session *session) {
    static unsigned char in_bytes[BATCH][DATAGRAM_BYTES];
    static struct iovec in_parts[BATCH];
    static struct mmsghdr in[BATCH];
    for (int i = 0; i < BATCH; i++) {
        in_parts[i] = (struct iovec){in_bytes[i], DATAGRAM_BYTES};
        in[i].msg_hdr = (struct msghdr){.msg_iov = &in_parts[i], .msg_iovlen = 1};
    }
    int count = recvmmsg(session->fd, in, BATCH, MSG_DONTWAIT, NULL);
    if (count < 0 && errno != EAGAIN && errno != EINTR) fail("receiving: %s", strerror(errno));
    for (int i = 0; i < count; i++) handle_datagram(session, in_bytes[i], (int)in[i].msg_len);
    flush(session);
}

/* What was lost on the way is sent again: requests here, flights by OpenSSL. */
static void handle_timeouts(int count) {
    for (int i = 0; i < count; i++) {
        struct session *session = &sessions[i];
        if (!session->is_open) {
            if (DTLSv1_handle_timeout(session->ssl) > 0) retransmissions++;
        } else {
            for (int slot = 0; slot < option.outstanding; slot++) {
                if (session->sent_at[slot] == 0 || now - session->sent_at[slot] < RETRANSMIT_SECONDS) continue;
                retransmissions++;
                if (is_reporting) {
                    session->sent_at[slot] = now;
                    send_message(session, session->message, session->message_bytes);
                } else if (is_observing) {
                    session->ids[slot] += MAX_OUTSTANDING; /* a duplicate of a Non-confirmable message would not be answered */
                    send_observe(session, slot);
                } else {
                    send_request(session, slot);
                }
            }
        }
        flush(session);
    }
}

/* Handles what has arrived; `each` is called for every session that something arrived for. */
static void run_once(int count, void (*each)(struct session *)) {
    static double heard_at, checked_at;
    struct epoll_event events[64];
    int ready = epoll_wait(queue, events, 64, 0);
    polls++;
    if (ready == 0) idle_polls++;
    read_clock();
    if (heard_at == 0 || ready > 0) heard_at = now;
    if (!is_observing && now - heard_at > SILENCE_SECONDS) fail("nothing arrived for %.0f s", SILENCE_SECONDS);
    for (int i = 0; i < ready; i++) {
        handle_readable(events[i].data.ptr);
        if (each != NULL) each(events[i].data.ptr);
    }
    if (now - checked_at > 0.25) {
        checked_at = now;
        handle_timeouts(count);
    }
}

/* ---- modes ---- */

static void open_all(void) {
    for (int begun = 0; opened < option.count;) {
        while (begun < option.count && begun - opened < OPENING_AT_ONCE) open_session(&sessions[begun++]);
        if (opened < option.count) run_once(begun, NULL);
    }
}

static void open_another(struct session *session) {
    if (!session->is_open) return;
    close_session(session);
    open_session(session);
}

/* Of all its threads, to the nanosecond. */
static double server_cpu_seconds(void) {
    clockid_t clock;
    struct timespec time;
    if (option.server_pid == 0) return 0;
    if (clock_getcpuclockid(option.server_pid, &clock) != 0 || clock_gettime(clock, &time) != 0)
        fail("process %d has no processor time", option.server_pid);
    return (double)time.tv_sec + (double)time.tv_nsec / 1e9;
}

/* What it found, without the brace that ends it. */
static void begin_output(long count, double seconds, long lost, double idle, double server, long bytes_out, long bytes_in) {
    printf("{\"count\":%ld,\"seconds\":%.4f,\"retransmissions\":%ld,\"idle\":%.3f,\"serverCpuSeconds\":%.6f,"
           "\"bytesOut\":%ld,\"bytesIn\":%ld",
           count, seconds, lost, idle, server, bytes_out, bytes_in);
}

static void report(long count, double seconds, long lost, double idle, double server, long bytes_out, long bytes_in) {
    begin_output(count, seconds, lost, idle, server, bytes_out, bytes_in);
    puts("}");
}

static void measure(const long *counter, void (*each)(struct session *)) {
    read_clock();
    for (long end = *counter + option.warmup; *counter < end;) run_once(option.count, each);
    double start = now, server = server_cpu_seconds();
    long before = *counter, lost = retransmissions, polled = polls, idle = idle_polls;
    while (now < start + option.seconds) run_once(option.count, each);
    report(*counter - before, now - start, retransmissions - lost, (double)(idle_polls - idle) / (double)(polls - polled),
           server_cpu_seconds() - server, 0, 0);
}

static void run_get(void) {
    open_all();
    read_clock();
    for (int i = 0; i < option.count; i++) {
        for (int slot = 0; slot < option.outstanding; slot++) send_new_request(&sessions[i], slot);
        flush(&sessions[i]);
    }
    measure(&answers, NULL);
}

static void run_handshake(void) {
    if (context == NULL) fail("handshake needs -s psk or -s ecdsa");
    for (int i = 0; i < option.count; i++) open_session(&sessions[i]);
    measure(&opened, open_another);
    /* A server would wait for the rest of what is under way. */
    for (int i = 0; i < option.count; i++)
        while (!sessions[i].is_open) run_once(option.count, NULL);
}

static void run_idle(void) {
    option.outstanding = 0;
    open_all();
    puts("READY");
    fflush(stdout);
    while (getchar() != EOF) continue;
}

static void run_observe(void) {
    enum { REGISTERING_AT_ONCE = 128 };
    if (context != NULL) fail("observe needs -s none");
    is_observing = 1;
    long all = (long)option.count * option.outstanding;
    int begun = 0;
    read_clock();
    for (opened = 0; opened < all;) {
        while (begun < option.count && (long)begun * option.outstanding - opened < REGISTERING_AT_ONCE) {
            open_session(&sessions[begun]);
            opened--; /* a session of `none` is open at once: what is counted here are observations */
            for (int slot = 0; slot < option.outstanding; slot++) {
                sessions[begun].ids[slot] = (unsigned short)slot;
                send_observe(&sessions[begun], slot);
            }
            flush(&sessions[begun++]);
        }
        run_once(begun, NULL);
    }
    puts("READY");
    fflush(stdout);
    for (long round = 1;; round++) {
        for (struct pollfd input = {0, POLLIN, 0}; answers < round * all;) {
            run_once(option.count, NULL);
            if (poll(&input, 1, 0) > 0) return;
        }
        printf("%ld\n", round);
        fflush(stdout);
    }
}

static int ascending(const void *one, const void *other) {
    const float *a = one, *b = other;
    return (*a > *b) - (*a < *b);
}

/* Sleeps until something arrives, or `until`. */
static void wait_for_input(double until) {
    double left = until - now;
    if (left <= 0) return;
    struct pollfd input = {queue, POLLIN, 0};
    struct timespec time = {(time_t)left, (long)((left - (double)(time_t)left) * 1e9)};
    ppoll(&input, 1, &time, NULL);
}

static double own_cpu_seconds(void) {
    struct rusage used;
    getrusage(RUSAGE_SELF, &used);
    return (double)(used.ru_utime.tv_sec + used.ru_stime.tv_sec) + (double)(used.ru_utime.tv_usec + used.ru_stime.tv_usec) / 1e6;
}

/* What a session was due to send, and when; and what its answers took. */
static struct {
    double start, *due; /* by session: when the report in flight was due, or the next one is */
    float *latency;     /* of those that count, in ms */
    long counted, room;
    int is_counting;
} reporting;

static double due_after(const struct session *session) {
    if (option.rate == 0) return now;
    long index = session - sessions;
    return reporting.start + (double)(index + (long)session->reports * option.count) / option.rate;
}

static void report_when_due(struct session *session) {
    double *due = &reporting.due[session - sessions];
    if (!session->is_answered) return;
    if (session->reports > 0 && *due != 0) {
        if (reporting.is_counting) {
            if (reporting.counted == reporting.room) {
                reporting.room = 2 * reporting.room + 65536;
                reporting.latency = realloc(reporting.latency, (size_t)reporting.room * sizeof *reporting.latency);
                if (reporting.latency == NULL) fail("no memory");
            }
            reporting.latency[reporting.counted++] = (float)((now - *due) * 1e3);
        }
        *due = 0; /* nothing is in flight */
    }
    double next = due_after(session);
    if (next > now) return;
    *due = next;
    send_report(session);
    flush(session);
}

static void register_all(void) {
    int begun = 0;
    for (answers = 0; answers < option.count;) {
        while (begun < option.count && begun - answers < OPENING_AT_ONCE) {
            send_registration(&sessions[begun]);
            flush(&sessions[begun++]);
        }
        wait_for_input(now + 0.1);
        run_once(option.count, NULL);
    }
}

static void run_report(void) {
    option.outstanding = 1;
    is_reporting = 1;
    prctl(PR_SET_TIMERSLACK, 1UL);
    open_all();
    register_all();
    reporting.due = calloc((size_t)option.count, sizeof *reporting.due);
    if (reporting.due == NULL) fail("no memory");
    read_clock();
    reporting.start = now;
    double counts_from = 0, server = 0, own = 0;
    long lost = 0, tick = 0;
    if (option.rate == 0)
        for (int i = 0; i < option.count; i++) report_when_due(&sessions[i]);
    for (answers = 0; counts_from == 0 || now < counts_from + option.seconds;) {
        /* Sessions come due in turn. One that still waits for an answer sends as soon as that is there. */
        for (; option.rate > 0 && reporting.start + (double)tick / option.rate <= now; tick++)
            report_when_due(&sessions[tick % option.count]);
        wait_for_input(option.rate > 0 ? reporting.start + (double)tick / option.rate : now + 0.1);
        run_once(option.count, report_when_due);
        if (counts_from == 0 && answers >= option.warmup) {
            counts_from = now;
            server = server_cpu_seconds();
            own = own_cpu_seconds();
            lost = retransmissions;
            reporting.is_counting = 1;
        }
    }
    double seconds = now - counts_from;
    double idle = 1 - (own_cpu_seconds() - own) / seconds;
    begin_output(reporting.counted, seconds, retransmissions - lost, idle, server_cpu_seconds() - server, 0, 0);
    qsort(reporting.latency, (size_t)reporting.counted, sizeof *reporting.latency, ascending);
    static const double shares[] = {0.5, 0.9, 0.99, 1};
    for (int i = 0; i < 4; i++) {
        long at = (long)((double)reporting.counted * shares[i]);
        float value = reporting.counted == 0 ? 0 : reporting.latency[at < reporting.counted ? at : reporting.counted - 1];
        printf("%s%.3f", i == 0 ? ",\"latencyMs\":[" : ",", (double)value);
    }
    puts("]}");
}

/* Each round sends a ClientHello from each of `count` new ports, and takes what comes back within a millisecond or so. */
static void run_hello(void) {
    enum { RANDOM_AT = 27, RANDOM_BYTES = 32 }; /* after the headers of record and message, and the version */
    static unsigned char hello[DATAGRAM_BYTES], answer[DATAGRAM_BYTES];
    struct sockaddr_in to = {.sin_family = AF_INET, .sin_port = htons((unsigned short)option.port)};
    to.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    if (context == NULL) fail("hello needs -s psk or -s ecdsa");
    BIO *in = BIO_new(BIO_s_mem()), *out_of_ssl = BIO_new(BIO_s_mem());
    SSL *ssl = SSL_new(context);
    if (in == NULL || out_of_ssl == NULL || ssl == NULL) fail("no memory");
    BIO_set_mem_eof_return(in, -1);
    SSL_set_bio(ssl, in, out_of_ssl);
    SSL_set_mtu(ssl, MTU);
    SSL_connect(ssl);
    int size = BIO_read(out_of_ssl, hello, sizeof hello);
    if (size < RANDOM_AT + RANDOM_BYTES) fail("no ClientHello");
    long sent = 0, bytes_in = 0;
    read_clock();
    double start = now, server = server_cpu_seconds();
    for (; now < start + option.seconds; read_clock()) {
        int sockets[BATCH];
        int count = option.count < BATCH ? option.count : BATCH;
        for (int i = 0; i < count; i++) {
            sockets[i] = socket(AF_INET, SOCK_DGRAM | SOCK_NONBLOCK, 0);
            if (sockets[i] < 0 || connect(sockets[i], (struct sockaddr *)&to, sizeof to) != 0) fail("a socket");
            memcpy(hello + RANDOM_AT, &sent, sizeof sent);
            memcpy(hello + RANDOM_AT + sizeof sent, &now, sizeof now);
            if (send(sockets[i], hello, (size_t)size, 0) == size) sent++;
        }
        for (int i = 0; i < count; i++) {
            /* One that is not answered is dropped by the server: in time, the next round begins. */
            for (int attempt = 0; attempt < 2000; attempt++) {
                ssize_t length = recv(sockets[i], answer, sizeof answer, 0);
                if (length <= 0) continue;
                bytes_in += length;
                break;
            }
            close(sockets[i]);
        }
    }
    report(sent, now - start, 0, 1, server_cpu_seconds() - server, sent * size, bytes_in);
    SSL_free(ssl);
    exit(0);
}

int main(int argc, char **argv) {
    const char *mode = argc > 1 ? argv[1] : "";
    for (int letter; (letter = getopt(argc - 1, argv + 1, "p:n:o:w:t:P:r:e:s:u:k:c:j:R:C")) != -1;) {
        switch (letter) {
        case 'p': option.port = atoi(optarg); break;
        case 'n': option.count = atoi(optarg); break;
        case 'o': option.outstanding = atoi(optarg); break;
        case 'w': option.warmup = atol(optarg); break;
        case 'C': option.is_confirmable = 1; break;
        case 't': option.seconds = atof(optarg); break;
        case 'R': option.rate = atof(optarg); break;
        case 'P': option.server_pid = atoi(optarg); break;
        case 'r': option.path = optarg; break;
        case 'e': option.payload = optarg; break;
        case 's': option.security = optarg; break;
        case 'u': option.identity = optarg; break;
        case 'k': option.key = optarg; break;
        case 'c': option.certificate = optarg; break;
        case 'j': option.certificate_key = optarg; break;
        default: return 2;
        }
    }
    if (option.port < 1 || option.port > 65535) fail("-p PORT is missing");
    if (option.count < 1 || option.count > MAX_SESSIONS) fail("-n: 1 to %d sessions", MAX_SESSIONS);
    if (option.outstanding < 1 || option.outstanding > MAX_OUTSTANDING) fail("-o: 1 to %d requests", MAX_OUTSTANDING);
    if (strlen(option.path) > PATH_BYTES) fail("-r: a path of at most %d bytes", PATH_BYTES);
    struct rlimit files;
    if (getrlimit(RLIMIT_NOFILE, &files) == 0) {
        files.rlim_cur = files.rlim_max;
        setrlimit(RLIMIT_NOFILE, &files);
    }
    queue = epoll_create1(0);
    if (strcmp(option.security, "none") != 0) prepare_dtls();
    if (strcmp(mode, "get") == 0) run_get();
    else if (strcmp(mode, "handshake") == 0) run_handshake();
    else if (strcmp(mode, "idle") == 0) run_idle();
    else if (strcmp(mode, "hello") == 0) run_hello();
    else if (strcmp(mode, "observe") == 0) run_observe();
    else if (strcmp(mode, "report") == 0) run_report();
    else fail("get | handshake | idle | observe | report | hello, then options");
    for (int i = 0; i < option.count; i++) close_session(&sessions[i]);
    return 0;
}
