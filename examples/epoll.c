/* cc -std=c11 -O2 -Wall -o epoll epoll.c $(pkg-config --cflags --libs pi0rt) -pthread
 *
 * An event loop: one descriptor ticks, the other becomes readable when a request has been answered.
 * Between the two the thread sleeps. Without a daemon the robot is brought to rest, by stages; a second
 * thread goes on with the next one, and the loop never waits for it.
 *
 *   ./epoll [SOCKET [SECONDS [PROMPT [RATE_HZ]]]]
 */
#define _GNU_SOURCE

#include <inttypes.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/timerfd.h>
#include <time.h>
#include <unistd.h>

#include <pi0rt.h>

#define PERIOD_NS 10000000
#define WIDTH 64
#define HEIGHT 48

static pi0rt_client *client;
/* Between the loop and the thread that reconnects. */
static atomic_bool gone, ended;
static uint64_t reconnects;

static void fail(const char *what, pi0rt_status status)
{
    char words[512] = "";
    pi0rt_last_error(words, sizeof words);
    fprintf(stderr, "epoll: %s: %s: %s\n", what, pi0rt_status_string(status), words);
    exit(EXIT_FAILURE);
}

static void system_call(const char *what, int result)
{
    if (result >= 0)
        return;
    perror(what);
    exit(EXIT_FAILURE);
}

static void watch(int epoll, int fd)
{
    struct epoll_event event = {.events = EPOLLIN, .data.fd = fd};
    system_call("epoll_ctl", epoll_ctl(epoll, EPOLL_CTL_ADD, fd, &event));
}

/* Submits an observation, if there is room for it. Drivers would have written frames and state. */
static void submit(pi0rt_observation *observation)
{
    if (pi0rt_observation_acquire(client, observation) != PI0RT_STATUS_OK)
        return;
    for (uint32_t camera = 0; camera < observation->cameras; camera++) {
        pi0rt_frame *frame = &observation->frames[camera];
        memset(frame->data, 64 * (int)camera, WIDTH * HEIGHT * 3);
        frame->width = WIDTH, frame->height = HEIGHT, frame->format = PI0RT_FORMAT_RGB8;
    }
    for (size_t i = 0; i < observation->state_dim; i++)
        observation->state[i] = 0;
    if (pi0rt_submit(client, observation, NULL) != PI0RT_STATUS_OK)
        pi0rt_observation_release(client, observation);
}

/* Goes on with the next daemon when there is one: what may block has a thread of its own. */
static void *keep(void *unused)
{
    (void)unused;
    while (!atomic_load(&ended)) {
        nanosleep(&(struct timespec){.tv_nsec = 100000000}, NULL);
        if (atomic_load(&gone) && pi0rt_client_reconnect(client) == PI0RT_STATUS_OK) {
            atomic_store(&gone, false);
            reconnects++;
        }
    }
    return NULL;
}

/* Watches the answers' descriptor while the daemon is there, and not while it isn't, when it is readable for good: of
 * the next daemon, or of one that was only silent for a while. */
static void follow(int epoll, int *answers, bool is_gone)
{
    if (is_gone && *answers >= 0) {
        epoll_ctl(epoll, EPOLL_CTL_DEL, *answers, NULL);
        *answers = -1;
    } else if (!is_gone && *answers < 0) {
        *answers = pi0rt_client_fd(client);
        watch(epoll, *answers);
    }
    /* The last thing: from now on the descriptor may be another one. */
    atomic_store(&gone, is_gone);
}

int main(int argc, char **argv)
{
    double seconds = argc > 2 ? atof(argv[2]) : 5;
    pi0rt_client_options options = {
        .struct_size = sizeof options,
        .socket_path = argc > 1 ? argv[1] : NULL,
        .frame_bytes = WIDTH * HEIGHT * 3,
        .control_rate_hz = argc > 4 ? (float)atof(argv[4]) : 0, /* 0: as the daemon says */
    };
    pi0rt_status status = pi0rt_client_open(&options, &client);
    if (status != PI0RT_STATUS_OK)
        fail("open", status);
    pi0rt_policy_info info = {.struct_size = sizeof info};
    if ((status = pi0rt_client_describe(client, &info)) != PI0RT_STATUS_OK)
        fail("describe", status);
    const char *prompt = argc > 3 ? argv[3] : "pick up the red block";
    if ((status = pi0rt_client_set_prompt(client, prompt, NULL)) != PI0RT_STATUS_OK)
        fail("prompt", status);
    float *action = calloc(info.action_dim, sizeof *action);
    if (!action)
        return EXIT_FAILURE;

    int epoll = epoll_create1(EPOLL_CLOEXEC), timer = timerfd_create(CLOCK_MONOTONIC, TFD_CLOEXEC);
    int answers = -1;
    system_call("epoll_create1", epoll);
    system_call("timerfd_create", timer);
    struct itimerspec period = {.it_interval.tv_nsec = PERIOD_NS, .it_value.tv_nsec = PERIOD_NS};
    system_call("timerfd_settime", timerfd_settime(timer, 0, &period, NULL));
    watch(epoll, timer);
    follow(epoll, &answers, false);
    /* The robot's present command, as its encoders say: limits count from there. Here they say 0. */
    if ((status = pi0rt_start_from(client, action, info.action_dim)) != PI0RT_STATUS_OK)
        fail("start", status);
    pthread_t keeper;
    if (pthread_create(&keeper, NULL, keep, NULL) != 0)
        return EXIT_FAILURE;

    pi0rt_observation observation = {.struct_size = sizeof observation};
    pi0rt_completion completion = {.struct_size = sizeof completion};
    pi0rt_action_info about = {.struct_size = sizeof about};
    uint64_t chunks = 0, failed = 0, actions = 0, end = pi0rt_now_ns() + (uint64_t)(seconds * 1e9);
    while (pi0rt_now_ns() < end) {
        struct epoll_event events[2];
        int count = epoll_wait(epoll, events, 2, -1);
        for (int i = 0; i < count; i++) {
            if (events[i].data.fd == timer) {
                uint64_t ticks;
                system_call("read", (int)read(timer, &ticks, sizeof ticks));
                status = pi0rt_action_at(client, pi0rt_now_ns(), action, info.action_dim, &about);
                if (status == PI0RT_STATUS_NO_RATE)
                    fail("action", status);
                if (about.stage != PI0RT_STAGE_EMPTY)
                    actions++; /* a robot would move here, or be held or brought to rest */
                if (about.flags & PI0RT_ACTION_SUBMIT_NOW)
                    submit(&observation);
                follow(epoll, &answers, status == PI0RT_STATUS_GONE);
                continue;
            }
            /* Polling until EMPTY resets the descriptor until the next answer. */
            while ((status = pi0rt_poll(client, &completion)) == PI0RT_STATUS_OK) {
                if (completion.status == PI0RT_STATUS_OK)
                    chunks++;
                else if (completion.status != PI0RT_STATUS_GONE && completion.status != PI0RT_STATUS_RESTARTED)
                    failed++;
            }
            if (status == PI0RT_STATUS_GONE)
                follow(epoll, &answers, true);
        }
    }
    atomic_store(&ended, true);
    pthread_join(keeper, NULL);
    printf("epoll: chunks %" PRIu64 ", failed %" PRIu64 ", actions %" PRIu64 ", reconnects %" PRIu64 "\n", chunks, failed,
           actions, reconnects);
    pi0rt_client_close(client);
    close(timer);
    close(epoll);
    free(action);
    return chunks > 0 && failed == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}
