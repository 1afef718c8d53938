/* A client without libpi0rt, which uses only the protocol of docs/protocol.md, version 1. As long as
 * this program works, so do clients built with an older library, and the document is sufficient to
 * write one in another language. Numbers in comments are its sections.
 *
 *   wire SOCKET   (a daemon of the tests' engine)
 */
#define _GNU_SOURCE

#include <poll.h>
#include <stdatomic.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>

#define CHECK(condition)                                                          \
    do {                                                                          \
        if (!(condition)) {                                                       \
            fprintf(stderr, "%s:%d: %s\n", __FILE__, __LINE__, #condition);       \
            exit(1);                                                              \
        }                                                                         \
    } while (0)

enum { HELLO = 1, PROMPT = 2, RESET = 3, CLOSE = 4, WELCOME = 0x81, PROMPT_READY, RESET_DONE, EVENT, REFUSED = 0xff };
enum { STATUS_OK = 0, STATUS_VERSION = -4, STATUS_PROTOCOL = -6, STATUS_BAD_OBSERVATION = -11, STATUS_BAD_PROMPT = -14 };

struct message {
    unsigned char bytes[32768];
    size_t length, at;
};

static int connect_to(const char *path)
{
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    int fd = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0);
    CHECK(fd >= 0 && strlen(path) < sizeof address.sun_path);
    strcpy(address.sun_path, path);
    CHECK(connect(fd, (struct sockaddr *)&address, sizeof address) == 0);
    return fd;
}

/* 1: little-endian numbers, one after the other. */
static void put(struct message *message, const void *bytes, size_t length)
{
    CHECK(message->length + length <= sizeof message->bytes);
    memcpy(message->bytes + message->length, bytes, length);
    message->length += length;
}

static void put32(struct message *message, uint32_t value)
{
    unsigned char bytes[4] = {(unsigned char)value, (unsigned char)(value >> 8), (unsigned char)(value >> 16),
                              (unsigned char)(value >> 24)};
    put(message, bytes, 4);
}

static void put64(struct message *message, uint64_t value)
{
    put32(message, (uint32_t)value);
    put32(message, (uint32_t)(value >> 32));
}

static uint32_t get32(struct message *message)
{
    const unsigned char *b = message->bytes + message->at;
    CHECK(message->at + 4 <= message->length);
    message->at += 4;
    return b[0] | (uint32_t)b[1] << 8 | (uint32_t)b[2] << 16 | (uint32_t)b[3] << 24;
}

static uint64_t get64(struct message *message)
{
    uint64_t low = get32(message);
    return low | (uint64_t)get32(message) << 32;
}

static const char *get_text(struct message *message)
{
    static char text[4096];
    uint32_t length = get32(message);
    CHECK(length < sizeof text && message->at + length <= message->length);
    memcpy(text, message->bytes + message->at, length);
    text[length] = '\0';
    message->at += length;
    return text;
}

static void begin(struct message *message, uint16_t kind)
{
    message->length = 0;
    put(message, "PI0R", 4);
    put32(message, 1u | (uint32_t)kind << 16);
    put64(message, 0);
}

static void send_message(int fd, struct message *message)
{
    for (int i = 0; i < 4; i++)
        message->bytes[8 + i] = (unsigned char)(message->length >> 8 * i);
    CHECK(send(fd, message->bytes, message->length, MSG_NOSIGNAL) == (ssize_t)message->length);
}

/* The kind of the next message; 0 when the connection was closed. */
static int receive(int fd, struct message *message, int *fds, int *fd_count)
{
    union {
        struct cmsghdr align;
        char bytes[CMSG_SPACE(8 * sizeof(int))];
    } control;
    struct iovec iov = {message->bytes, sizeof message->bytes};
    struct msghdr header = {.msg_iov = &iov, .msg_iovlen = 1, .msg_control = &control, .msg_controllen = sizeof control};
    struct pollfd wait = {.fd = fd, .events = POLLIN};
    CHECK(poll(&wait, 1, 60000) == 1);
    ssize_t length = recvmsg(fd, &header, MSG_CMSG_CLOEXEC);
    if (length <= 0)
        return 0;
    if (fds) {
        *fd_count = 0;
        struct cmsghdr *rights = CMSG_FIRSTHDR(&header);
        if (rights && rights->cmsg_type == SCM_RIGHTS) {
            *fd_count = (int)((rights->cmsg_len - CMSG_LEN(0)) / sizeof(int));
            memcpy(fds, CMSG_DATA(rights), (size_t)*fd_count * sizeof(int));
        }
    }
    message->length = (size_t)length;
    message->at = 0;
    CHECK(memcmp(message->bytes, "PI0R", 4) == 0);
    get32(message);
    uint32_t version_and_kind = get32(message);
    CHECK((version_and_kind & 0xffff) == 1 && get32(message) == message->length);
    get32(message);
    return (int)(version_and_kind >> 16);
}

/* Events may come at any time. */
static int answer(int fd, struct message *message)
{
    int kind;
    while ((kind = receive(fd, message, NULL, NULL)) == EVENT)
        ;
    return kind;
}

static void hello(struct message *message, uint64_t features)
{
    begin(message, HELLO);
    put32(message, 1);        /* ABI version */
    put32(message, 4096);     /* bytes per frame */
    put64(message, features);
    put32(message, 0);        /* slots: the daemon's choice */
    put32(message, 4);        /* ring entries */
    put32(message, 0xabcdef); /* what a later version may add */
}

struct region {
    uint32_t offset, length;
};

/* 2: a session. */
struct session {
    int socket, bell;
    unsigned char *control, *observation, *results;
    uint64_t epoch;
    uint32_t cameras, frame_bytes, state_dim, horizon, action_dim, slots, entries;
    struct region completion_head, want_event, submissions, liveness, need_wakeup, submission_head, stats, completions,
        latest, chunks, slot, state, frame;
    uint64_t submitted, completed;
};

static _Atomic uint64_t *word(unsigned char *segment, struct region region, size_t index)
{
    CHECK(region.offset % 8 == 0 && 8 * (index + 1) <= region.length);
    return (_Atomic uint64_t *)(void *)(segment + region.offset) + index;
}

static unsigned char *map(int fd, uint32_t bytes, int protection)
{
    struct stat about;
    CHECK(fstat(fd, &about) == 0 && about.st_size == bytes);
    unsigned char *at = mmap(NULL, bytes, protection, MAP_SHARED, fd, 0);
    CHECK(at != MAP_FAILED);
    return at;
}

static struct region get_region(struct message *message)
{
    struct region region;
    region.offset = get32(message);
    region.length = get32(message);
    return region;
}

static struct session open_session(const char *path)
{
    static struct message message;
    struct session s = {.socket = connect_to(path)};
    int fds[8], fd_count;
    hello(&message, 0);
    send_message(s.socket, &message);
    CHECK(receive(s.socket, &message, fds, &fd_count) == WELCOME && fd_count == 4);
    get32(&message); /* ABI version */
    get32(&message);
    get64(&message); /* features: those that are not known here don't matter */
    get64(&message); /* session */
    s.epoch = get64(&message);
    CHECK(get64(&message) > 0); /* heartbeat */
    get64(&message);            /* longest age */
    uint32_t numbers = get32(&message);
    CHECK(numbers >= 36);
    size_t after = message.at + 4 * numbers;
    uint32_t control = get32(&message), observation = get32(&message), results = get32(&message);
    s.cameras = get32(&message), s.frame_bytes = get32(&message), s.state_dim = get32(&message);
    s.horizon = get32(&message), s.action_dim = get32(&message), s.slots = get32(&message), s.entries = get32(&message);
    s.completion_head = get_region(&message), s.want_event = get_region(&message);
    s.submissions = get_region(&message), s.liveness = get_region(&message);
    s.need_wakeup = get_region(&message), s.submission_head = get_region(&message);
    s.stats = get_region(&message), s.completions = get_region(&message), s.latest = get_region(&message);
    s.chunks = get_region(&message), s.slot = get_region(&message), s.state = get_region(&message);
    s.frame = get_region(&message);
    message.at = after;
    CHECK(get32(&message) == s.state_dim && get32(&message) == s.action_dim && get32(&message) == s.horizon);
    CHECK(get32(&message) == 10 && get32(&message) == 48 && get32(&message) == 224);
    uint32_t rate = get32(&message);
    float hz;
    memcpy(&hz, &rate, 4);
    CHECK(hz == 50);
    CHECK(strcmp(get_text(&message), "sums") == 0 && strcmp(get_text(&message), "none") == 0);
    CHECK(get32(&message) == 2 && s.cameras == 2);
    CHECK(strcmp(get_text(&message), "base") == 0 && strcmp(get_text(&message), "wrist") == 0);
    CHECK(s.entries == 4 && s.frame_bytes == 4096 && s.state_dim == 3);

    s.control = map(fds[0], control, PROT_READ | PROT_WRITE);
    s.observation = map(fds[1], observation, PROT_READ | PROT_WRITE);
    s.results = map(fds[2], results, PROT_READ);
    CHECK(mmap(NULL, results, PROT_READ | PROT_WRITE, MAP_SHARED, fds[2], 0) == MAP_FAILED);
    s.bell = fds[3];
    for (int i = 0; i < 3; i++)
        close(fds[i]);
    CHECK(*word(s.results, s.liveness, 0) == s.epoch && *word(s.results, s.liveness, 1) == 1);
    return s;
}

static uint64_t now_ns(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (uint64_t)now.tv_sec * 1000000000u + (uint64_t)now.tv_nsec;
}

/* 3: one gray 2x2 frame for the camera "wrist", and a state. */
static void submit(struct session *s, uint32_t slot, uint32_t prompt, const float *state, uint64_t ticket, uint64_t observed)
{
    unsigned char *at = s->observation + s->slot.offset + (size_t)slot * s->slot.length;
    memset(at + s->frame.offset + s->frame.length, 64, 4);
    memcpy(at + s->state.offset, state, 4 * s->state_dim);
    uint64_t head[4] = {0, 0, 2 | (uint64_t)2 << 32, 2 | (uint64_t)4 << 32};
    memcpy(at, head, sizeof head);
    uint64_t n = s->submitted++;
    CHECK(n - atomic_load_explicit(word(s->results, s->submission_head, 0), memory_order_acquire) < s->entries);
    uint64_t entry[8] = {n + 1, ticket, slot | (uint64_t)prompt << 32, observed, now_ns(), 7, 0, 0};
    size_t first = n % s->entries * 8;
    for (size_t i = 1; i < 8; i++)
        atomic_store_explicit(word(s->control, s->submissions, first + i), entry[i], memory_order_relaxed);
    atomic_store_explicit(word(s->control, s->submissions, first), entry[0], memory_order_release);
    atomic_thread_fence(memory_order_seq_cst);
    if (atomic_load_explicit(word(s->results, s->need_wakeup, 0), memory_order_relaxed)) {
        uint64_t one = 1;
        CHECK(write(s->bell, &one, 8) == 8);
    }
}

/* 4: the next completion; sleeps until there is one. */
static void complete(struct session *s, uint64_t *completion)
{
    static struct message message;
    uint64_t n = s->completed;
    size_t first = n % s->entries * 8;
    _Atomic uint64_t *want_event = word(s->control, s->want_event, 0);
    while (atomic_load_explicit(word(s->results, s->completions, first), memory_order_acquire) != n + 1) {
        CHECK(atomic_load(word(s->results, s->liveness, 1)) == 1);
        atomic_store(want_event, 1);
        atomic_thread_fence(memory_order_seq_cst);
        if (atomic_load_explicit(word(s->results, s->completions, first), memory_order_acquire) != n + 1)
            CHECK(receive(s->socket, &message, NULL, NULL) == EVENT);
    }
    atomic_store(want_event, 0);
    for (size_t i = 0; i < 8; i++)
        completion[i] = *word(s->results, s->completions, first + i);
    atomic_store_explicit(word(s->control, s->completion_head, 0), ++s->completed, memory_order_release);
}

/* 4: the latest chunk's number, with its header and its actions. */
static uint64_t latest(struct session *s, uint64_t *head, float *actions)
{
    size_t values = (size_t)s->horizon * s->action_dim, slot_bytes = (64 + 4 * values + 63) / 64 * 64;
    for (;;) {
        uint64_t n = atomic_load_explicit(word(s->results, s->latest, 0), memory_order_acquire);
        if (n == 0)
            return 0;
        size_t first = n % 3 * slot_bytes / 8;
        uint64_t sequence = atomic_load_explicit(word(s->results, s->chunks, first), memory_order_acquire);
        memcpy(head, s->results + s->chunks.offset + first * 8, 64);
        memcpy(actions, s->results + s->chunks.offset + first * 8 + 64, 4 * values);
        atomic_thread_fence(memory_order_acquire);
        if (sequence == 2 * n && atomic_load_explicit(word(s->results, s->chunks, first), memory_order_relaxed) == sequence)
            return n;
    }
}

static uint32_t register_prompt(struct session *s, const char *text, int32_t expected)
{
    static struct message message;
    begin(&message, PROMPT);
    put32(&message, (uint32_t)strlen(text));
    put(&message, text, strlen(text));
    send_message(s->socket, &message);
    int kind = answer(s->socket, &message);
    if (expected != STATUS_OK) {
        CHECK(kind == REFUSED && (int32_t)get32(&message) == expected && strlen(get_text(&message)) > 0);
        return 0;
    }
    CHECK(kind == PROMPT_READY);
    uint32_t id = get32(&message);
    CHECK(id > 0 && (get32(&message) & 1) == 0);
    return id;
}

static void rounds(struct session *s)
{
    uint32_t prompt = register_prompt(s, "stack the cups", STATUS_OK);
    CHECK(register_prompt(s, "stack the cups", STATUS_OK) == prompt);
    register_prompt(s, " ", STATUS_BAD_PROMPT);
    float actions[100];
    uint64_t completion[8], head[8];
    CHECK(s->horizon * s->action_dim == 100 && latest(s, head, actions) == 0);
    for (uint64_t round = 1; round <= 50; round++) {
        float state[3] = {(float)round, 2, -1};
        uint32_t slot = (uint32_t)(round % s->slots);
        uint64_t observed = now_ns(), ticket = 1000 + round * 3;
        submit(s, slot, prompt, state, ticket, observed);
        complete(s, completion);
        CHECK(completion[1] == ticket && completion[2] == (uint64_t)slot << 32 && completion[3] == round);
        CHECK(completion[4] == observed && completion[5] >= observed);
        CHECK(completion[6] >= completion[5] && completion[7] >= completion[6]);
        CHECK(latest(s, head, actions) == round && head[1] == ticket && head[2] == round && head[3] == observed);
        CHECK(head[7] == (s->horizon | (uint64_t)s->action_dim << 32));
        for (uint32_t i = 0; i < 100; i++)
            CHECK(actions[i] == (float)(i / 5) + state[i % 5 % 3] + 0.25f);
    }
    /* 5: counters; no submission is missing. */
    CHECK(*word(s->results, s->stats, 0) == 50 && *word(s->results, s->stats, 1) == 50);
    /* Invalid submissions are answered too: an unknown instruction, a slot that does not exist. */
    float state[3] = {0, 0, 0};
    submit(s, 0, prompt + 77, state, 1, now_ns());
    complete(s, completion);
    CHECK(completion[1] == 1 && (int32_t)completion[2] == STATUS_BAD_OBSERVATION && completion[3] == 0);

    static struct message message;
    begin(&message, RESET);
    send_message(s->socket, &message);
    CHECK(answer(s->socket, &message) == RESET_DONE && latest(s, head, actions) == 0);
    begin(&message, CLOSE);
    send_message(s->socket, &message);
    CHECK(answer(s->socket, &message) == 0);
    CHECK(*word(s->results, s->liveness, 1) != 1);
}

/* 1: the daemon's answers to clients it can't serve. */
static void refusals(const char *path)
{
    static struct message message;
    for (int i = 0; i < 4; i++) {
        int fd = connect_to(path);
        hello(&message, i == 1 ? (uint64_t)1 << 63 : 0);
        if (i == 0)
            message.bytes[4] = 2; /* protocol version */
        if (i == 2)
            message.bytes[0] = 'X'; /* magic */
        if (i == 3)
            begin(&message, PROMPT); /* before hello, and without its text */
        send_message(fd, &message);
        int32_t expected = i < 2 ? STATUS_VERSION : STATUS_PROTOCOL;
        CHECK(answer(fd, &message) == REFUSED && (int32_t)get32(&message) == expected);
        CHECK(strlen(get_text(&message)) > 0);
        CHECK(answer(fd, &message) == 0);
        close(fd);
    }
}

int main(int argc, char **argv)
{
    CHECK(argc == 2);
    refusals(argv[1]);
    struct session session = open_session(argv[1]);
    rounds(&session);
    puts("wire: done");
    return 0;
}
