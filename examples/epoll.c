/* cc -std=c11 -O2 -Wall -o epoll epoll.c $(pkg-config --cflags --libs pi0rt)
 *
 * An event loop: one descriptor ticks, the other becomes readable when a request has been answered.
 * Between the two the thread sleeps. Without a daemon the robot is brought to rest, by stages; with
 * the next one it goes on.
 *
 *   ./epoll [SOCKET [SECONDS [PROMPT [RATE_HZ]]]]
 */
#define _GNU_SOURCE

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/timerfd.h>
#include <unistd.h>

#include <pi0rt.h>

#define PERIOD_NS 10000000
#define RETRY_NS 100000000
#define WIDTH 64
#define HEIGHT 48

static pi0rt_client *client;

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

/* Goes on with another daemon if there is one, whose answers are to be watched then. A daemon that is loading
 * keeps this waiting: a robot that must not wait needs a thread for it, as realtime.c has. */
static void reconnect(int epoll, int *answers)
{
    if (pi0rt_client_reconnect(client) != PI0RT_STATUS_OK)
        return;
    epoll_ctl(epoll, EPOLL_CTL_DEL, *answers, NULL);
    *answers = pi0rt_client_fd(client);
    watch(epoll, *answers);
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
    int answers = pi0rt_client_fd(client);
    system_call("epoll_create1", epoll);
    system_call("timerfd_create", timer);
    struct itimerspec period = {.it_interval.tv_nsec = PERIOD_NS, .it_value.tv_nsec = PERIOD_NS};
    system_call("timerfd_settime", timerfd_settime(timer, 0, &period, NULL));
    watch(epoll, timer);
    watch(epoll, answers);

    pi0rt_observation observation = {.struct_size = sizeof observation};
    pi0rt_completion completion = {.struct_size = sizeof completion};
    pi0rt_action_info about = {.struct_size = sizeof about};
    uint64_t chunks = 0, failed = 0, actions = 0, end = pi0rt_now_ns() + (uint64_t)(seconds * 1e9);
    uint64_t retry = 0;
    while (pi0rt_now_ns() < end) {
        struct epoll_event events[2];
        int count = epoll_wait(epoll, events, 2, -1);
        for (int i = 0; i < count; i++) {
            if (events[i].data.fd == timer) {
                uint64_t ticks, now = pi0rt_now_ns();
                system_call("read", (int)read(timer, &ticks, sizeof ticks));
                status = pi0rt_action_at(client, now, action, info.action_dim, &about);
                if (about.stage != PI0RT_STAGE_EMPTY)
                    actions++; /* a robot would move here, or be held or brought to rest */
                if (about.flags & PI0RT_ACTION_SUBMIT_NOW)
                    submit(&observation);
                if (status == PI0RT_STATUS_GONE && now >= retry) {
                    retry = now + RETRY_NS;
                    reconnect(epoll, &answers);
                } else if (status == PI0RT_STATUS_NO_RATE) {
                    fail("action", status);
                }
                continue;
            }
            /* Polling until EMPTY resets the descriptor until the next answer. */
            while ((status = pi0rt_poll(client, &completion)) == PI0RT_STATUS_OK) {
                if (completion.status == PI0RT_STATUS_OK)
                    chunks++;
                else if (completion.status != PI0RT_STATUS_GONE && completion.status != PI0RT_STATUS_RESTARTED)
                    failed++;
            }
            /* Readable for good: nothing is to be heard of it until the next connection. */
            if (status == PI0RT_STATUS_GONE)
                epoll_ctl(epoll, EPOLL_CTL_DEL, answers, NULL);
        }
    }
    printf("epoll: chunks %" PRIu64 ", failed %" PRIu64 ", actions %" PRIu64 "\n", chunks, failed, actions);
    pi0rt_client_close(client);
    close(timer);
    close(epoll);
    free(action);
    return chunks > 0 && failed == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}
