/* Every detectable misuse of the C ABI, with the resulting status. */
#define _DEFAULT_SOURCE

#include <math.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdint.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

#include "check.h"

static const char *socket_path;

/* Calls every function that takes a client, and expects the same status from all. */
static void all_answer(pi0rt_client *client, pi0rt_status expected)
{
    pi0rt_policy_info info = {.struct_size = sizeof info};
    pi0rt_observation observation = {.struct_size = sizeof observation};
    pi0rt_completion completion = {.struct_size = sizeof completion};
    pi0rt_chunk chunk = {.struct_size = sizeof chunk};
    pi0rt_action_info about = {.struct_size = sizeof about};
    uint32_t number;
    uint64_t ticket;
    float action[5];
    CHECK(pi0rt_client_describe(client, &info) == expected);
    CHECK(pi0rt_client_camera(client, "base", &number) == expected);
    pi0rt_dimension dimension = {.struct_size = sizeof dimension};
    CHECK(pi0rt_client_dimension(client, PI0RT_VECTOR_STATE, 0, &dimension) == expected);
    pi0rt_prompt prompt = {.struct_size = sizeof prompt};
    CHECK(pi0rt_client_prompt(client, 0, &prompt) == expected);
    CHECK(pi0rt_client_set_prompt(client, "stack the cups", &number) == expected);
    CHECK(pi0rt_client_reset(client) == expected);
    CHECK(pi0rt_client_fd(client) == -1);
    CHECK(pi0rt_observation_acquire(client, &observation) == expected);
    CHECK(pi0rt_observation_release(client, &observation) == expected);
    CHECK(pi0rt_submit(client, &observation, &ticket) == expected);
    CHECK(pi0rt_poll(client, &completion) == expected);
    CHECK(pi0rt_chunk_latest(client, &chunk) == expected);
    CHECK(pi0rt_action_at(client, 0, action, 5, &about) == expected);
    CHECK(pi0rt_motion_at(client, 0, action, NULL, 5, NULL) == expected);
    CHECK(pi0rt_start_from(client, action, 5) == expected);
    CHECK(pi0rt_client_set_prompt_flush(client, "stack the cups", NULL) == expected);
    CHECK(pi0rt_wait(client, 0, 0, &completion) == expected);
    pi0rt_statistics statistics = {.struct_size = sizeof statistics};
    CHECK(pi0rt_client_statistics(client, &statistics) == expected);
}

static void null_everywhere(void)
{
    IS(INVALID_ARGUMENT, pi0rt_client_open(NULL, NULL));
    CHECK(last_error_is("client is NULL"));
    CHECK(pi0rt_last_error(NULL, 0) == strlen("client is NULL"));
    CHECK(pi0rt_last_error(NULL, 100) == strlen("client is NULL"));
    IS(OK, pi0rt_client_close(NULL));
    all_answer(NULL, PI0RT_STATUS_INVALID_ARGUMENT);

    pi0rt_client *client = open_client(socket_path);
    uint32_t number;
    IS(INVALID_ARGUMENT, pi0rt_client_describe(client, NULL));
    CHECK(last_error_is("info is NULL"));
    IS(INVALID_ARGUMENT, pi0rt_client_camera(client, NULL, &number));
    IS(INVALID_ARGUMENT, pi0rt_client_camera(client, "base", NULL));
    IS(INVALID_ARGUMENT, pi0rt_client_set_prompt(client, NULL, &number));
    IS(INVALID_ARGUMENT, pi0rt_observation_acquire(client, NULL));
    IS(INVALID_ARGUMENT, pi0rt_observation_release(client, NULL));
    IS(INVALID_ARGUMENT, pi0rt_submit(client, NULL, NULL));
    IS(INVALID_ARGUMENT, pi0rt_poll(client, NULL));
    IS(INVALID_ARGUMENT, pi0rt_chunk_latest(client, NULL));
    IS(INVALID_ARGUMENT, pi0rt_action_at(client, 0, NULL, 5, NULL));
    IS(INVALID_ARGUMENT, pi0rt_motion_at(client, 0, NULL, NULL, 5, NULL));
    IS(INVALID_ARGUMENT, pi0rt_start_from(client, NULL, 5));
    IS(INVALID_ARGUMENT, pi0rt_client_set_prompt_flush(client, NULL, NULL));
    IS(INVALID_ARGUMENT, pi0rt_wait(client, 0, 0, NULL));
    IS(INVALID_ARGUMENT, pi0rt_client_statistics(client, NULL));
    IS(OK, pi0rt_client_set_prompt(client, "stack the cups", NULL));
    IS(OK, pi0rt_client_close(client));
}

static void values_out_of_range(void)
{
    pi0rt_client_options options = options_for("/nonexistent/pi0rt.sock");
    pi0rt_client *client = (pi0rt_client *)&options;
    IS(NO_DAEMON, pi0rt_client_open(&options, &client));
    CHECK(client == NULL);
    options.socket_path = socket_path;
    options.interpolation = 9;
    IS(INVALID_ARGUMENT, pi0rt_client_open(&options, &client));
    CHECK(last_error_is("options.interpolation is 9, expected a pi0rt_interpolation up to 3"));
    options.interpolation = 0;
    options.stitching = 4;
    IS(INVALID_ARGUMENT, pi0rt_client_open(&options, &client));
    CHECK(last_error_is("options.stitching is 4, expected a pi0rt_stitching"));
    options.stitching = 0, options.ensemble_decay = 11;
    IS(INVALID_ARGUMENT, pi0rt_client_open(&options, &client));
    CHECK(last_error_is("ensemble's m is 11, expected -10 to 10"));
    options.ensemble_decay = 0, options.guidance_max_weight = -1;
    IS(INVALID_ARGUMENT, pi0rt_client_open(&options, &client));
    options.guidance_max_weight = 0;
    options.control_rate_hz = -1;
    IS(INVALID_ARGUMENT, pi0rt_client_open(&options, &client));
    CHECK(last_error_is("options.control_rate_hz is -1, expected a finite number, not negative"));
    options.control_rate_hz = 0;
    options.ring_entries = 1u << 20;
    IS(REFUSED, pi0rt_client_open(&options, &client));
    CHECK(last_error_is("daemon refused: 1048576 ring entries asked for, at most 1024 are allowed"));

    client = open_client(socket_path);
    uint32_t number;
    float action[5];
    IS(INVALID_ARGUMENT, pi0rt_client_camera(client, "front", &number));
    CHECK(last_error_is("no camera is called \"front\""));
    IS(INVALID_ARGUMENT, pi0rt_client_set_prompt(client, "\xff", NULL));
    CHECK(last_error_is("utf8 is not UTF-8"));
    IS(BAD_PROMPT, pi0rt_client_set_prompt(client, "", NULL));
    IS(INVALID_ARGUMENT, pi0rt_action_at(client, 0, action, 4, NULL));
    CHECK(last_error_is("action has room for 4 values, the policy's actions have 5"));
    IS(INVALID_ARGUMENT, pi0rt_motion_at(client, pi0rt_now_ns(), action, action, 5, NULL));
    IS(INVALID_ARGUMENT, pi0rt_start_from(client, action, 6));
    CHECK(last_error_is("command has 6 values, the policy's actions have 5"));
    float start[5] = {0, 0, 0, NAN, 0};
    IS(INVALID_ARGUMENT, pi0rt_start_from(client, start, 5));
    pi0rt_observation flagged = {.struct_size = sizeof flagged};
    IS(OK, pi0rt_observation_acquire(client, &flagged));
    flagged.flags = 4;
    IS(INVALID_ARGUMENT, pi0rt_submit(client, &flagged, NULL));
    CHECK(last_error_is("observation.flags is 4, expected PI0RT_OBSERVATION_*, combined"));
    IS(OK, pi0rt_client_close(client));
}

#define EACH_SIZE(call, first)                                                                   \
    do {                                                                                         \
        static const uint32_t sizes[] = {0, 4, (first)-1, 0x7fffffff, 0xcccccccc, 0xffffffff};    \
        for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++) {                              \
            about.struct_size = info.struct_size = observation.struct_size = sizes[i];           \
            completion.struct_size = chunk.struct_size = options.struct_size = sizes[i];         \
            IS(STRUCT_SIZE, call);                                                               \
        }                                                                                        \
    } while (0)

static void wrong_sizes(void)
{
    pi0rt_client *client = open_client(socket_path), *second;
    pi0rt_client_options options = options_for(socket_path);
    pi0rt_policy_info info = {0};
    pi0rt_observation observation = {0};
    pi0rt_completion completion = {0};
    pi0rt_chunk chunk = {0};
    pi0rt_action_info about = {0};
    float action[5];
    EACH_SIZE(pi0rt_client_open(&options, &second), 48);
    CHECK(last_error_is("options.struct_size is 4294967295, expected 48 to 4256") && second == NULL);
    EACH_SIZE(pi0rt_client_describe(client, &info), 464);
    EACH_SIZE(pi0rt_observation_acquire(client, &observation), 176);
    EACH_SIZE(pi0rt_observation_release(client, &observation), 176);
    EACH_SIZE(pi0rt_submit(client, &observation, NULL), 176);
    EACH_SIZE(pi0rt_poll(client, &completion), 56);
    EACH_SIZE(pi0rt_chunk_latest(client, &chunk), 72);
    EACH_SIZE(pi0rt_action_at(client, 0, action, 5, &about), 32);
    EACH_SIZE(pi0rt_wait(client, 0, 0, &completion), 56);
    pi0rt_statistics statistics = {0};
    EACH_SIZE(pi0rt_client_statistics(client, &statistics), 224);

    /* A later version's structs: accepted as long as unknown input fields are zero. */
    struct {
        pi0rt_client_options options;
        uint64_t later[8];
    } longer = {.options = options_for(socket_path)};
    longer.options.struct_size = sizeof longer;
    IS(OK, pi0rt_client_open(&longer.options, &second));
    IS(OK, pi0rt_client_close(second));
    longer.later[7] = 1;
    IS(STRUCT_SIZE, pi0rt_client_open(&longer.options, &second));
    CHECK(second == NULL);
    struct {
        pi0rt_policy_info info;
        uint64_t later;
    } described = {.info.struct_size = sizeof described, .later = 7};
    IS(OK, pi0rt_client_describe(client, &described.info));
    CHECK(described.info.cameras == 2 && described.info.struct_size == sizeof described && described.later == 7);
    /* The first version's: nothing beyond it is written. */
    memset(&info, 0x55, sizeof info);
    info.struct_size = 464;
    IS(OK, pi0rt_client_describe(client, &info));
    for (size_t i = 464; i < sizeof info; i++)
        CHECK(((unsigned char *)&info)[i] == 0x55);
    /* Not aligned. */
    IS(INVALID_ARGUMENT, pi0rt_client_describe(client, (pi0rt_policy_info *)((char *)&info + 1)));
    IS(OK, pi0rt_client_close(client));
}

static void foreign_pointers(void)
{
    uint64_t other[64];
    memset(other, 1, sizeof other);
    all_answer((pi0rt_client *)other, PI0RT_STATUS_BAD_HANDLE);
    IS(BAD_HANDLE, pi0rt_client_close((pi0rt_client *)other));
    CHECK(last_error_is("client is not one that pi0rt_client_open made"));
    /* Unmapped addresses. */
    static const uintptr_t wild[] = {1, 16, 0xdead0000, UINTPTR_MAX, UINTPTR_MAX / 2, (uintptr_t)1 << 63};
    for (size_t i = 0; i < sizeof wild / sizeof *wild; i++)
        all_answer((pi0rt_client *)wild[i], PI0RT_STATUS_BAD_HANDLE);
    pi0rt_client *client = open_client(socket_path);
    for (uintptr_t bit = 1; bit < 1024; bit <<= 1)
        CHECK(pi0rt_client_reset((pi0rt_client *)((uintptr_t)client ^ bit)) < 0);
    IS(OK, pi0rt_client_close(client));
}

static void use_after_close(void)
{
    pi0rt_client *client = open_client(socket_path);
    IS(OK, pi0rt_client_close(client));
    IS(CLOSED, pi0rt_client_close(client));
    CHECK(last_error_is("client is closed"));
    all_answer(client, PI0RT_STATUS_CLOSED);
    /* Even when another session has taken its place. */
    pi0rt_client *next = open_client(socket_path);
    CHECK(next != client);
    all_answer(client, PI0RT_STATUS_CLOSED);
    IS(CLOSED, pi0rt_client_close(client));
    IS(OK, pi0rt_client_reset(next));
    IS(OK, pi0rt_client_close(next));
}

static void slots_frames_and_tickets(void)
{
    pi0rt_client_options options = options_for(socket_path);
    options.frame_bytes = 4096, options.slots = 4, options.ring_entries = 2;
    pi0rt_client *client;
    IS(OK, pi0rt_client_open(&options, &client));
    pi0rt_policy_info info = {.struct_size = sizeof info};
    IS(OK, pi0rt_client_describe(client, &info));
    CHECK(info.slots == 4 && info.ring_entries == 2);
    IS(OK, pi0rt_client_set_prompt(client, "stack the cups", NULL));

    pi0rt_observation all[5];
    for (int i = 0; i < 5; i++)
        all[i] = (pi0rt_observation){.struct_size = sizeof all[i]};
    IS(INVALID_ARGUMENT, pi0rt_submit(client, &all[0], NULL));
    CHECK(last_error_is("observation slot 0 was not acquired"));
    IS(INVALID_ARGUMENT, pi0rt_observation_release(client, &all[0]));
    for (int i = 0; i < 4; i++)
        IS(OK, pi0rt_observation_acquire(client, &all[i]));
    IS(BUSY, pi0rt_observation_acquire(client, &all[4]));

    pi0rt_frame *frame = &all[0].frames[0];
    frame->width = 100000, frame->height = 100000, frame->format = PI0RT_FORMAT_RGB8;
    IS(FRAME_SIZE, pi0rt_submit(client, &all[0], NULL));
    frame->width = 64, frame->height = 4, frame->stride = 10;
    IS(FRAME_SIZE, pi0rt_submit(client, &all[0], NULL));
    CHECK(last_error_is("camera 0: 64x4 pixels of format 1, 10 bytes apart, don't fit the 4096 bytes of a frame"));
    frame->width = UINT32_MAX, frame->height = UINT32_MAX, frame->stride = UINT32_MAX;
    IS(FRAME_SIZE, pi0rt_submit(client, &all[0], NULL));
    frame->width = 0, frame->stride = 0;
    IS(FRAME_SIZE, pi0rt_submit(client, &all[0], NULL));
    frame->width = 4, frame->height = 4, frame->format = 77;
    IS(INVALID_ARGUMENT, pi0rt_submit(client, &all[0], NULL));
    CHECK(last_error_is("format of a frame is 77, expected a pi0rt_format"));
    frame->format = PI0RT_FORMAT_NONE;
    all[0].frames[3] = (pi0rt_frame){.width = 1, .height = 1, .format = PI0RT_FORMAT_GRAY8};
    IS(INVALID_ARGUMENT, pi0rt_submit(client, &all[0], NULL));
    CHECK(last_error_is("camera 3 has a frame, but the policy has 2 cameras"));
    all[0].frames[3].format = PI0RT_FORMAT_NONE;

    /* The ring has two entries, and an answer occupies one until it is taken. */
    for (int i = 0; i < 4; i++)
        memset(all[i].state, 0, sizeof(float) * all[i].state_dim);
    uint64_t tickets[2];
    IS(OK, pi0rt_submit(client, &all[0], &tickets[0]));
    IS(OK, pi0rt_submit(client, &all[1], &tickets[1]));
    IS(BUSY, pi0rt_submit(client, &all[2], NULL));
    IS(INVALID_ARGUMENT, pi0rt_submit(client, &all[0], NULL));

    pi0rt_completion completion = {.struct_size = sizeof completion};
    IS(UNKNOWN_TICKET, pi0rt_wait(client, tickets[1] + 1, LONG_NS, &completion));
    CHECK(last_error_is("ticket 3 is not under way: never given out, or its completion was taken"));
    IS(OK, pi0rt_wait(client, tickets[1], LONG_NS, &completion));
    IS(UNKNOWN_TICKET, pi0rt_wait(client, tickets[1], LONG_NS, &completion));
    IS(OK, pi0rt_wait(client, tickets[0], LONG_NS, &completion));
    IS(UNKNOWN_TICKET, pi0rt_wait(client, tickets[0], LONG_NS, &completion));
    IS(OK, pi0rt_submit(client, &all[2], NULL));
    IS(OK, pi0rt_client_close(client));
}

/* Two threads at one client, the other in calls of one class. */
struct shared {
    pi0rt_client *client;
    void (*call)(pi0rt_client *);
    atomic_int done;
};

static void *calls_again_and_again(void *argument)
{
    struct shared *shared = argument;
    while (!atomic_load(&shared->done))
        shared->call(shared->client);
    return NULL;
}

static void request(pi0rt_client *client)
{
    pi0rt_status status = pi0rt_client_reset(client);
    CHECK(status == PI0RT_STATUS_OK || status == PI0RT_STATUS_IN_USE);
}

static void submission(pi0rt_client *client)
{
    pi0rt_observation observation = {.struct_size = sizeof observation};
    if (pi0rt_observation_acquire(client, &observation) == PI0RT_STATUS_OK)
        while (pi0rt_observation_release(client, &observation) != PI0RT_STATUS_OK)
            ;
}

static void wait_for_any(pi0rt_client *client)
{
    pi0rt_completion completion = {.struct_size = sizeof completion};
    pi0rt_status status = pi0rt_wait(client, 0, 1000000, &completion);
    CHECK(status == PI0RT_STATUS_TIMEOUT || status == PI0RT_STATUS_IN_USE);
}

static void action(pi0rt_client *client)
{
    pi0rt_statistics statistics = {.struct_size = sizeof statistics};
    pi0rt_status status = pi0rt_client_statistics(client, &statistics);
    CHECK(status == PI0RT_STATUS_OK || status == PI0RT_STATUS_IN_USE);
}

/* The other thread is in a call nearly always: sooner or later each of ours of its class meets it there, and none
   of another. */
static void meet(pi0rt_status status, int same_class, const char *class, atomic_int *met)
{
    if (status != PI0RT_STATUS_IN_USE)
        return;
    char expected[100];
    snprintf(expected, sizeof expected, "client is in use by another thread, in a call of class %s", class);
    CHECK(same_class && last_error_is(expected));
    atomic_store(met, 1);
}

#define MEETS(of, call)                                                 \
    do {                                                                \
        uint64_t end = pi0rt_now_ns() + LONG_NS;                        \
        atomic_int met = 0;                                             \
        int same = !strcmp(of, class);                                  \
        for (int i = 0; same ? !atomic_load(&met) : i < 1000; i++) {    \
            meet(call, same, of, &met);                                  \
            CHECK(pi0rt_now_ns() < end);                                \
        }                                                               \
    } while (0)

static pi0rt_status descriptor(pi0rt_client *client)
{
    return pi0rt_client_fd(client) == -1 ? PI0RT_STATUS_IN_USE : PI0RT_STATUS_OK;
}

/* Acquires one, and gives it back. */
static pi0rt_status acquire(pi0rt_client *client)
{
    pi0rt_observation observation = {.struct_size = sizeof observation};
    pi0rt_status status = pi0rt_observation_acquire(client, &observation);
    if (status == PI0RT_STATUS_OK)
        while (pi0rt_observation_release(client, &observation) != PI0RT_STATUS_OK)
            ;
    return status;
}

static void meets(const char *class, void (*other)(pi0rt_client *))
{
    struct shared shared = {.client = open_client(socket_path), .call = other};
    pi0rt_client *client = shared.client;
    pi0rt_policy_info info = {.struct_size = sizeof info};
    pi0rt_observation observation = {.struct_size = sizeof observation, .slot = 7};
    pi0rt_completion completion = {.struct_size = sizeof completion};
    pi0rt_chunk chunk = {.struct_size = sizeof chunk};
    pi0rt_dimension dimension = {.struct_size = sizeof dimension};
    pi0rt_prompt prompt = {.struct_size = sizeof prompt};
    pi0rt_statistics statistics = {.struct_size = sizeof statistics};
    uint32_t number;
    float values[5];
    pthread_t thread;
    CHECK(pthread_create(&thread, NULL, calls_again_and_again, &shared) == 0);
    MEETS("requests", pi0rt_client_describe(client, &info));
    MEETS("requests", pi0rt_client_camera(client, "base", &number));
    MEETS("requests", pi0rt_client_dimension(client, PI0RT_VECTOR_STATE, 0, &dimension));
    MEETS("requests", pi0rt_client_prompt(client, 0, &prompt));
    if (!strcmp(class, "requests")) {
        MEETS("requests", pi0rt_client_set_prompt(client, "stack the cups", &number));
        MEETS("requests", pi0rt_client_reset(client));
    }
    MEETS("submissions", acquire(client));
    MEETS("submissions", pi0rt_observation_release(client, &observation));
    MEETS("submissions", pi0rt_submit(client, &observation, NULL));
    MEETS("completions", pi0rt_poll(client, &completion));
    MEETS("completions", pi0rt_wait(client, 0, 0, &completion));
    MEETS("completions", descriptor(client));
    MEETS("actions", pi0rt_chunk_latest(client, &chunk));
    MEETS("actions", pi0rt_action_at(client, 0, values, 5, NULL));
    MEETS("actions", pi0rt_client_statistics(client, &statistics));
    atomic_store(&shared.done, 1);
    pthread_join(thread, NULL);
    /* Taking turns is fine. */
    IS(OK, pi0rt_client_reset(client));
    IS(OK, pi0rt_client_close(client));
}

static void wrong_thread(void)
{
    meets("requests", request);
    meets("submissions", submission);
    meets("completions", wait_for_any);
    meets("actions", action);
}

static void *waits_once(void *argument)
{
    struct shared *shared = argument;
    pi0rt_completion completion = {.struct_size = sizeof completion};
    atomic_store(&shared->done, 1);
    CHECK(pi0rt_wait(shared->client, 0, 1000000000u, &completion) != PI0RT_STATUS_OK);
    return NULL;
}

/* Closes during another thread's call: the client stays open, or the other thread finds it closed. */
static void close_while_in_use(void)
{
    struct shared shared = {.client = open_client(socket_path)};
    pthread_t thread;
    CHECK(pthread_create(&thread, NULL, waits_once, &shared) == 0);
    while (!atomic_load(&shared.done))
        ;
    pi0rt_status status = pi0rt_client_close(shared.client);
    CHECK(status == PI0RT_STATUS_OK || status == PI0RT_STATUS_IN_USE);
    pthread_join(thread, NULL);
    IS(CLOSED, status == PI0RT_STATUS_OK ? pi0rt_client_close(shared.client)
                                         : (pi0rt_client_close(shared.client), pi0rt_client_close(shared.client)));
}

static void fork_after_open(void)
{
    pi0rt_client *client = open_client(socket_path);
    fflush(NULL);
    pid_t child = fork();
    CHECK(child >= 0);
    if (child == 0) {
        all_answer(client, PI0RT_STATUS_FORKED);
        CHECK(last_error_is("client was opened by the process that this one was forked from"));
        /* The child opens its own session. */
        pi0rt_client *own = open_client(socket_path);
        IS(OK, pi0rt_client_reset(own));
        IS(OK, pi0rt_client_close(client));
        IS(CLOSED, pi0rt_client_close(client));
        IS(OK, pi0rt_client_reset(own));
        /* A child of the child. */
        pid_t grandchild = fork();
        if (grandchild == 0) {
            all_answer(own, PI0RT_STATUS_FORKED);
            _exit(0);
        }
        int status;
        CHECK(waitpid(grandchild, &status, 0) == grandchild && status == 0);
        IS(OK, pi0rt_client_close(own));
        _exit(0);
    }
    int status;
    CHECK(waitpid(child, &status, 0) == child && status == 0);
    /* The parent's session still works. */
    IS(OK, pi0rt_client_reset(client));
    IS(OK, pi0rt_client_close(client));
}

/* The other thread doesn't exist in the child, even if it was in a call. */
static void fork_while_in_use(void)
{
    struct shared shared = {.client = open_client(socket_path), .call = wait_for_any};
    pthread_t thread;
    CHECK(pthread_create(&thread, NULL, calls_again_and_again, &shared) == 0);
    for (int i = 0; i < 20; i++) {
        pid_t child = fork();
        CHECK(child >= 0);
        if (child == 0) {
            all_answer(shared.client, PI0RT_STATUS_FORKED);
            IS(OK, pi0rt_client_close(shared.client));
            IS(CLOSED, pi0rt_client_close(shared.client));
            all_answer(shared.client, PI0RT_STATUS_CLOSED);
            _exit(0);
        }
        int status;
        CHECK(waitpid(child, &status, 0) == child && status == 0);
    }
    atomic_store(&shared.done, 1);
    pthread_join(thread, NULL);
    IS(OK, pi0rt_client_reset(shared.client));
    IS(OK, pi0rt_client_close(shared.client));
}

/* Answers each hello with one packet, then closes. */
static void *answers(void *argument)
{
    static unsigned char hello[1024];
    const void *const *packets = argument;
    int listener = *(const int *)packets[0];
    for (size_t i = 1; packets[i]; i++) {
        int connection = accept(listener, NULL, NULL);
        CHECK(connection >= 0 && read(connection, hello, sizeof hello) > 0);
        CHECK(write(connection, packets[i], 16) == 16);
        close(connection);
    }
    return NULL;
}

/* A daemon of another version, and listeners that are not daemons. */
static void wrong_version(void)
{
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    snprintf(address.sun_path, sizeof address.sun_path, "%s.other", socket_path);
    int listener = socket(AF_UNIX, SOCK_SEQPACKET, 0);
    CHECK(bind(listener, (struct sockaddr *)&address, sizeof address) == 0 && listen(listener, 1) == 0);
    static const unsigned char other_version[16] = {'P', 'I', '0', 'R', 2, 0, 0x81, 0, 16};
    static const unsigned char no_magic[16] = "HTTP/1.1 200 OK";
    static const unsigned char short_welcome[16] = {'P', 'I', '0', 'R', 1, 0, 0x81, 0, 16};
    static const unsigned char reset_done[16] = {'P', 'I', '0', 'R', 1, 0, 0x83, 0, 16};
    static const unsigned char event[16] = {'P', 'I', '0', 'R', 1, 0, 0x84, 0, 16};
    const void *packets[] = {&listener, other_version, no_magic, short_welcome, reset_done, event, NULL};
    pthread_t thread;
    CHECK(pthread_create(&thread, NULL, answers, packets) == 0);
    pi0rt_client_options options = options_for(address.sun_path);
    pi0rt_client *client;
    IS(VERSION, pi0rt_client_open(&options, &client));
    CHECK(last_error_is("daemon: protocol version is 0x2, expected 1"));
    IS(PROTOCOL, pi0rt_client_open(&options, &client));
    IS(PROTOCOL, pi0rt_client_open(&options, &client));
    IS(PROTOCOL, pi0rt_client_open(&options, &client));
    /* The message is skipped; then the connection ends. */
    IS(NO_DAEMON, pi0rt_client_open(&options, &client));
    CHECK(client == NULL);
    pthread_join(thread, NULL);
    /* Listens, but never answers. */
    options.reply_timeout_ns = 20000000;
    IS(TIMEOUT, pi0rt_client_open(&options, &client));
    close(listener);
    IS(NO_DAEMON, pi0rt_client_open(&options, &client));
    unlink(address.sun_path);
}

static void too_many(void)
{
    pi0rt_client *clients[64], *one_more;
    pi0rt_client_options options = options_for(socket_path);
    options.frame_bytes = 4096, options.slots = 2, options.ring_entries = 2;
    for (int i = 0; i < 64; i++)
        IS(OK, pi0rt_client_open(&options, &clients[i]));
    IS(REFUSED, pi0rt_client_open(&options, &one_more));
    CHECK(last_error_is("64 clients are open in this process, the most allowed") && one_more == NULL);
    IS(OK, pi0rt_client_close(clients[20]));
    IS(OK, pi0rt_client_open(&options, &clients[20]));
    for (int i = 0; i < 64; i++)
        IS(OK, pi0rt_client_close(clients[i]));
}

int main(int argc, char **argv)
{
    CHECK(argc == 2);
    socket_path = argv[1];
    null_everywhere();
    values_out_of_range();
    wrong_sizes();
    foreign_pointers();
    use_after_close();
    slots_frames_and_tickets();
    wrong_thread();
    close_while_in_use();
    fork_after_open();
    fork_while_in_use();
    wrong_version();
    too_many();
    puts("misuse: done");
    return 0;
}
