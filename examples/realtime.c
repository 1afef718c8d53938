/* cc -std=c11 -O2 -Wall -o realtime realtime.c $(pkg-config --cflags --libs pi0rt) -pthread
 *
 * A 1 kHz loop in a separate thread, with SCHED_FIFO and all memory locked: everything that waits is
 * done before the thread starts, or in the main thread, which goes on with the next daemon when one has
 * ended. Meanwhile the loop plays, holds and brings the robot to rest, by stages. If the limits forbid it
 * (ulimit -r, ulimit -l; or CAP_SYS_NICE and CAP_IPC_LOCK), the program reports that and runs all the same.
 *
 *   ./realtime [SOCKET [SECONDS [PROMPT [RATE_HZ]]]]
 *
 * The thread sleeps between its ticks. A thread that polls without a pause takes the whole core, and
 * the kernel stops it for 50 ms of each second unless the core is isolated.
 */
#define _GNU_SOURCE

#include <errno.h>
#include <inttypes.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <time.h>

#include <pi0rt.h>

#define PERIOD_NS 1000000
#define PRIORITY 80
#define STACK_BYTES (256 << 10)
#define WIDTH 64
#define HEIGHT 48
#define MAX_ACTION_DIM 64

struct loop {
    pi0rt_client *client;
    uint32_t action_dim;
    uint64_t ticks, missed, chunks, failed, actions, held, longest_ns;
    long faults;
    /* Told to the main thread. */
    atomic_bool gone, done;
};

static void check(const char *what, pi0rt_status status)
{
    char words[256] = "";
    if (status == PI0RT_STATUS_OK)
        return;
    pi0rt_last_error(words, sizeof words);
    fprintf(stderr, "realtime: %s: %s: %s\n", what, pi0rt_status_string(status), words);
    exit(EXIT_FAILURE);
}

static long page_faults(void)
{
    struct rusage usage;
    getrusage(RUSAGE_THREAD, &usage);
    return usage.ru_minflt + usage.ru_majflt;
}

/* Runs one tick. Whatever the daemon does, there is a command once there was one. */
static void tick(struct loop *loop, pi0rt_observation *observation)
{
    pi0rt_completion completion = {.struct_size = sizeof completion};
    pi0rt_action_info about = {.struct_size = sizeof about};
    float action[MAX_ACTION_DIM];
    while (pi0rt_poll(loop->client, &completion) == PI0RT_STATUS_OK) {
        if (completion.status == PI0RT_STATUS_OK)
            loop->chunks++;
        else if (completion.status != PI0RT_STATUS_GONE && completion.status != PI0RT_STATUS_RESTARTED)
            loop->failed++;
    }
    pi0rt_status status = pi0rt_action_at(loop->client, pi0rt_now_ns(), action, loop->action_dim, &about);
    if (about.stage == PI0RT_STAGE_PLAY)
        loop->actions++; /* a robot would move here */
    else if (about.stage != PI0RT_STAGE_EMPTY)
        loop->held++; /* it would be held or brought to rest */
    /* The main thread goes on with the next daemon. */
    atomic_store_explicit(&loop->gone, status == PI0RT_STATUS_GONE, memory_order_relaxed);
    if (!(about.flags & PI0RT_ACTION_SUBMIT_NOW) ||
        pi0rt_observation_acquire(loop->client, observation) != PI0RT_STATUS_OK)
        return;
    /* Drivers would write frames and state here. */
    for (uint32_t camera = 0; camera < observation->cameras; camera++) {
        pi0rt_frame *frame = &observation->frames[camera];
        memset(frame->data, 64 * (int)camera, WIDTH * HEIGHT * 3);
        frame->width = WIDTH, frame->height = HEIGHT, frame->format = PI0RT_FORMAT_RGB8;
    }
    memset(observation->state, 0, observation->state_dim * sizeof(float));
    if (pi0rt_submit(loop->client, observation, NULL) != PI0RT_STATUS_OK)
        pi0rt_observation_release(loop->client, observation);
}

static void *run(void *argument)
{
    struct loop *loop = argument;
    pi0rt_observation observation = {.struct_size = sizeof observation};
    struct timespec next;
    clock_gettime(CLOCK_MONOTONIC, &next);
    loop->faults = page_faults();
    for (uint64_t i = 0; i < loop->ticks; i++) {
        next.tv_nsec += PERIOD_NS;
        if (next.tv_nsec >= 1000000000) {
            next.tv_nsec -= 1000000000;
            next.tv_sec++;
        }
        clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &next, NULL);
        uint64_t begun = pi0rt_now_ns();
        if (begun - ((uint64_t)next.tv_sec * 1000000000u + (uint64_t)next.tv_nsec) > PERIOD_NS)
            loop->missed++;
        tick(loop, &observation);
        uint64_t took = pi0rt_now_ns() - begun;
        if (took > loop->longest_ns)
            loop->longest_ns = took;
    }
    loop->faults = page_faults() - loop->faults;
    atomic_store(&loop->done, true);
    return NULL;
}

/* Starts the loop with a real-time priority, or without one if not permitted. */
static void start(pthread_t *thread, struct loop *loop)
{
    struct sched_param parameter = {.sched_priority = PRIORITY};
    pthread_attr_t attributes;
    pthread_attr_init(&attributes);
    pthread_attr_setstacksize(&attributes, STACK_BYTES);
    pthread_attr_setinheritsched(&attributes, PTHREAD_EXPLICIT_SCHED);
    pthread_attr_setschedpolicy(&attributes, SCHED_FIFO);
    pthread_attr_setschedparam(&attributes, &parameter);
    int error = pthread_create(thread, &attributes, run, loop);
    if (error == EPERM) {
        printf("SCHED_FIFO: not permitted, the loop runs at the usual priority\n");
        pthread_attr_setinheritsched(&attributes, PTHREAD_INHERIT_SCHED);
        error = pthread_create(thread, &attributes, run, loop);
    } else if (error == 0) {
        printf("SCHED_FIFO: priority %d\n", PRIORITY);
    }
    pthread_attr_destroy(&attributes);
    if (error != 0) {
        fprintf(stderr, "realtime: pthread_create: %s\n", strerror(error));
        exit(EXIT_FAILURE);
    }
}

int main(int argc, char **argv)
{
    double seconds = argc > 2 ? atof(argv[2]) : 5;
    pi0rt_client_options options = {
        .struct_size = sizeof options,
        .socket_path = argc > 1 ? argv[1] : NULL,
        .interpolation = PI0RT_INTERPOLATION_LINEAR,
        .frame_bytes = WIDTH * HEIGHT * 3,
        .control_rate_hz = argc > 4 ? (float)atof(argv[4]) : 0, /* 0: as the daemon says */
    };
    struct loop loop = {.ticks = (uint64_t)(seconds * 1e9 / PERIOD_NS)};
    check("open", pi0rt_client_open(&options, &loop.client));
    pi0rt_policy_info info = {.struct_size = sizeof info};
    check("describe", pi0rt_client_describe(loop.client, &info));
    if (info.rate_source == PI0RT_RATE_SOURCE_NONE) {
        fprintf(stderr, "realtime: nothing declares a control rate: give RATE_HZ\n");
        return EXIT_FAILURE;
    }
    if (info.action_dim > MAX_ACTION_DIM) {
        fprintf(stderr, "realtime: actions have %" PRIu32 " values, at most %d\n", info.action_dim, MAX_ACTION_DIM);
        return EXIT_FAILURE;
    }
    loop.action_dim = info.action_dim;
    check("prompt", pi0rt_client_set_prompt(loop.client, argc > 3 ? argv[3] : "pick up the red block", NULL));
    /* The robot's present command, as its encoders say: limits count from there. */
    float present[MAX_ACTION_DIM] = {0};
    check("start", pi0rt_start_from(loop.client, present, loop.action_dim));

    /* After the session's segments are mapped, so that they are locked too. */
    if (mlockall(MCL_CURRENT | MCL_FUTURE) == 0)
        printf("mlockall: all memory is locked\n");
    else
        printf("mlockall: %s, memory may be paged out\n", strerror(errno));
    pthread_t thread;
    start(&thread, &loop);
    /* What may block is done here, while the loop goes on. */
    uint64_t reconnects = 0;
    while (!atomic_load(&loop.done)) {
        nanosleep(&(struct timespec){.tv_nsec = 100000000}, NULL);
        if (atomic_load(&loop.gone))
            reconnects += pi0rt_client_reconnect(loop.client) == PI0RT_STATUS_OK;
    }
    pthread_join(thread, NULL);
    printf("realtime: chunks %" PRIu64 ", failed %" PRIu64 ", actions %" PRIu64 ", held or stopping %" PRIu64
           ", reconnects %" PRIu64 ", missed ticks %" PRIu64
           ", page faults %ld, longest tick %.1f us\n",
           loop.chunks, loop.failed, loop.actions, loop.held, reconnects, loop.missed, loop.faults, (double)loop.longest_ns / 1e3);
    pi0rt_client_close(loop.client);
    return loop.chunks > 0 && loop.failed == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}
