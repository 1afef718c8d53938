/* cc -std=c11 -O2 -Wall -o across across.c $(pkg-config --cflags --libs pi0rt)
 *
 * A controller that continues across daemons: always one request in flight, an action in each tick, and nothing
 * opened after the start.
 *
 *   across          runs until SIGTERM; prints the results of all tickets, and the longest time without a new chunk
 *   across --one    sends one request and prints its result
 */
#define _POSIX_C_SOURCE 200809L

#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include <pi0rt.h>

#define TICK_NS 1000000

static double ms(uint64_t ns) { return (double)ns / 1e6; }

static volatile sig_atomic_t told_to_end;

static void end(int signal)
{
    (void)signal;
    told_to_end = 1;
}

static unsigned restarts;
static int restarted; /* and no chunk since */

static void say(const char *format, ...)
{
    va_list arguments;
    va_start(arguments, format);
    vprintf(format, arguments);
    va_end(arguments);
    putchar('\n');
    fflush(stdout);
}

/* True if a status ends this program. A missing or a new daemon does not. */
static int is_error(pi0rt_status status)
{
    if (status == PI0RT_STATUS_RESTARTED) {
        restarted = 1;
        restarts++;
        say("RESTARTED");
    }
    return status < 0 && status != PI0RT_STATUS_RESTARTED && status != PI0RT_STATUS_GONE;
}

static void fail(const char *what, pi0rt_status status)
{
    char words[512] = "";
    pi0rt_last_error(words, sizeof words);
    printf("across: %s: %s: %s\n", what, pi0rt_status_string(status), words);
    exit(EXIT_FAILURE);
}

static pi0rt_status submit(pi0rt_client *client, uint32_t prompt, uint64_t *ticket)
{
    pi0rt_observation observation = {.struct_size = sizeof observation, .prompt_id = prompt};
    pi0rt_status status = pi0rt_observation_acquire(client, &observation);
    if (status != PI0RT_STATUS_OK)
        return status;
    for (uint32_t camera = 0; camera < observation.cameras; camera++) {
        pi0rt_frame *frame = &observation.frames[camera];
        frame->width = frame->height = 32;
        frame->stride = 0;
        frame->format = PI0RT_FORMAT_RGB8;
        memset(frame->data, (int)(40 * camera), 32 * 32 * 3);
    }
    memset(observation.state, 0, observation.state_dim * sizeof *observation.state);
    status = pi0rt_submit(client, &observation, ticket);
    if (status != PI0RT_STATUS_OK)
        pi0rt_observation_release(client, &observation);
    return status;
}

static int one(pi0rt_client *client, uint32_t prompt)
{
    uint64_t ticket;
    pi0rt_status status = submit(client, prompt, &ticket);
    if (status != PI0RT_STATUS_OK)
        fail("submit", status);
    say("submitted %llu", (unsigned long long)ticket);
    pi0rt_completion completion = {.struct_size = sizeof completion};
    if ((status = pi0rt_wait(client, ticket, 60000000000u, &completion)) != PI0RT_STATUS_OK)
        fail("wait", status);
    printf("answered: %s, after %.0f ms\n", pi0rt_status_string(completion.status),
           ms(completion.finished_ns - completion.submitted_ns));
    return completion.status == PI0RT_STATUS_OK ? EXIT_SUCCESS : EXIT_FAILURE;
}

int main(int argc, char **argv)
{
    int only_one = argc == 2 && strcmp(argv[1], "--one") == 0;
    if (argc > 1 && !only_one) {
        fprintf(stderr, "usage: across [--one]\n");
        return 2;
    }
    signal(SIGTERM, end);
    pi0rt_client *client;
    pi0rt_status status = pi0rt_client_open(NULL, &client);
    if (status != PI0RT_STATUS_OK)
        fail("open", status);
    pi0rt_policy_info info = {.struct_size = sizeof info};
    pi0rt_client_describe(client, &info);
    uint32_t prompt;
    if ((status = pi0rt_client_set_prompt(client, "pick up the red block", &prompt)) != PI0RT_STATUS_OK)
        fail("prompt", status);
    if (only_one)
        return one(client, prompt);
    say("session %llu", (unsigned long long)info.session);

    float *action = calloc(info.action_dim, sizeof *action);
    pi0rt_completion completion = {.struct_size = sizeof completion};
    unsigned long long submitted = 0, answered = 0, good = 0, lost = 0, actions = 0, gone = 0;
    uint64_t ticket = 0, submitted_ns = 0, chunk_ns = 0, gap_ns = 0;
    int under_way = 0;
    while (!told_to_end || under_way) {
        uint64_t now = pi0rt_now_ns();
        if (under_way && now - submitted_ns > 120000000000u) {
            printf("across: ticket %llu is not answered\n", (unsigned long long)ticket);
            return EXIT_FAILURE;
        }
        status = pi0rt_poll(client, &completion);
        if (status == PI0RT_STATUS_OK) {
            if (completion.ticket != ticket || !under_way) {
                printf("across: ticket %llu is answered, %llu was submitted last\n",
                       (unsigned long long)completion.ticket, (unsigned long long)ticket);
                return EXIT_FAILURE;
            }
            under_way = 0;
            answered++;
            if (completion.status == PI0RT_STATUS_OK) {
                uint64_t gap = chunk_ns ? completion.finished_ns - chunk_ns : 0;
                chunk_ns = completion.finished_ns;
                gap_ns = gap > gap_ns ? gap : gap_ns;
                if (restarted)
                    say("first chunk of the next daemon %.0f ms after the last of the one before", ms(gap));
                restarted = 0;
                good++;
            } else if (completion.status == PI0RT_STATUS_RESTARTED ||
                       completion.status == PI0RT_STATUS_DEVICE_LOST) {
                lost++;
            } else {
                printf("across: ticket %llu: %s\n", (unsigned long long)ticket,
                       pi0rt_status_string(completion.status));
                return EXIT_FAILURE;
            }
        } else if (is_error(status)) {
            fail("poll", status);
        } else if (status == PI0RT_STATUS_GONE) {
            gone++;
        }
        /* The latest chunk is played with or without a daemon. */
        pi0rt_action_info about = {.struct_size = sizeof about};
        status = pi0rt_action_at(client, now, action, info.action_dim, &about);
        if (is_error(status))
            fail("action", status);
        actions += about.chunk != 0;
        if (!under_way && !told_to_end) {
            status = submit(client, prompt, &ticket);
            if (is_error(status))
                fail("submit", status);
            if (status == PI0RT_STATUS_OK) {
                submitted++;
                submitted_ns = now;
                under_way = 1;
            }
        }
        nanosleep(&(struct timespec){0, TICK_NS}, NULL);
    }
    printf("tickets %llu, answered %llu: chunks %llu, lost with a daemon %llu\n", submitted, answered, good, lost);
    printf("daemons %u, polls without one %llu, actions %llu, longest time between chunks %.0f ms\n", restarts + 1, gone,
           actions, ms(gap_ns));
    pi0rt_client_close(client);
    free(action);
    return submitted == answered && answered == good + lost ? EXIT_SUCCESS : EXIT_FAILURE;
}
