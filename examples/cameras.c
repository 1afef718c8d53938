/* cc -std=c11 -O2 -Wall -o cameras cameras.c $(pkg-config --cflags --libs pi0rt) -pthread
 *
 * Frames without copies in the control loop: each camera has a thread that writes its frames into
 * the acquired slot; the loop adds the state and submits when all frames are there and the player
 * says that an observation is due. Frames are YUYV, as webcams send them.
 *
 *   ./cameras [SOCKET [SECONDS [PROMPT]]]
 */
#define _GNU_SOURCE

#include <inttypes.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include <pi0rt.h>

#define PERIOD_NS 1000000
#define FRAME_NS 33333333
#define WIDTH 640
#define HEIGHT 480
#define MAX_ACTION_DIM 64

/* State of a camera's part of the slot. A camera overwrites its frame until the loop takes it. */
enum part { EMPTY, WRITING, FILLED, TAKEN };

struct camera {
    pthread_t thread;
    atomic_int part;
    atomic_bool stop;
    /* The camera's while it writes, else the loop's. */
    uint8_t *data;
    uint64_t observed_ns;
};

/* Between the loop and the thread that reconnects. */
static atomic_bool gone, ended;
static uint64_t reconnects;

static void check(const char *what, pi0rt_status status)
{
    char words[256];
    if (status == PI0RT_STATUS_OK)
        return;
    pi0rt_last_error(words, sizeof words);
    fprintf(stderr, "cameras: %s: %s: %s\n", what, pi0rt_status_string(status), words);
    exit(EXIT_FAILURE);
}

/* Sleeps until a moment of CLOCK_MONOTONIC. */
static void sleep_until(uint64_t ns)
{
    struct timespec until = {.tv_sec = (time_t)(ns / 1000000000u), .tv_nsec = (long)(ns % 1000000000u)};
    clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &until, NULL);
}

static int change(struct camera *camera, int from, int to)
{
    return atomic_compare_exchange_strong_explicit(&camera->part, &from, to, memory_order_acq_rel,
                                                   memory_order_acquire);
}

/* A camera: a frame every 33 ms, written where the loop wants it, if it wants one. */
static void *film(void *argument)
{
    struct camera *camera = argument;
    uint64_t next = pi0rt_now_ns();
    for (unsigned i = 0; !atomic_load(&camera->stop); i++) {
        sleep_until(next += FRAME_NS);
        if (!change(camera, EMPTY, WRITING) && !change(camera, FILLED, WRITING))
            continue;
        /* A driver would copy, or have the device write here. */
        memset(camera->data, 64 + (int)(i % 64), (size_t)WIDTH * HEIGHT * 2);
        camera->observed_ns = next;
        atomic_store_explicit(&camera->part, FILLED, memory_order_release);
    }
    return NULL;
}

/* Goes on with the next daemon when there is one: what may block has a thread of its own. */
static void *keep(void *client)
{
    while (!atomic_load(&ended)) {
        sleep_until(pi0rt_now_ns() + 100000000);
        if (atomic_load(&gone) && pi0rt_client_reconnect(client) == PI0RT_STATUS_OK) {
            atomic_store(&gone, 0);
            reconnects++;
        }
    }
    return NULL;
}

/* Acquires a slot and gives the cameras their parts of it; whether there was one. */
static int lend(pi0rt_client *client, pi0rt_observation *observation, struct camera *cameras)
{
    if (pi0rt_observation_acquire(client, observation) != PI0RT_STATUS_OK)
        return 0;
    for (uint32_t i = 0; i < observation->cameras; i++) {
        cameras[i].data = observation->frames[i].data;
        atomic_store_explicit(&cameras[i].part, EMPTY, memory_order_release);
    }
    return 1;
}

/* Takes the frames of all cameras; none while one of them writes, or has written none yet. */
static int take(struct camera *cameras, uint32_t count)
{
    for (uint32_t i = 0; i < count; i++)
        if (!change(&cameras[i], FILLED, TAKEN)) {
            while (i-- > 0)
                atomic_store_explicit(&cameras[i].part, FILLED, memory_order_release);
            return 0;
        }
    return 1;
}

int main(int argc, char **argv)
{
    double seconds = argc > 2 ? atof(argv[2]) : 5;
    pi0rt_client_options options = {
        .struct_size = sizeof options,
        .socket_path = argc > 1 ? argv[1] : NULL,
        .frame_bytes = WIDTH * HEIGHT * 2,
    };
    pi0rt_client *client;
    check("open", pi0rt_client_open(&options, &client));
    pi0rt_policy_info info = {.struct_size = sizeof info};
    check("describe", pi0rt_client_describe(client, &info));
    if (info.action_dim > MAX_ACTION_DIM) {
        fprintf(stderr, "cameras: actions have %" PRIu32 " values, at most %d\n", info.action_dim, MAX_ACTION_DIM);
        return EXIT_FAILURE;
    }
    check("prompt", pi0rt_client_set_prompt(client, argc > 3 ? argv[3] : "pick up the red block", NULL));

    struct camera cameras[PI0RT_MAX_CAMERAS] = {0};
    /* The robot's present command, as its encoders say: limits count from there. */
    float present[MAX_ACTION_DIM] = {0};
    check("start", pi0rt_start_from(client, present, info.action_dim));

    for (uint32_t i = 0; i < info.cameras; i++) {
        atomic_store(&cameras[i].part, TAKEN);
        if (pthread_create(&cameras[i].thread, NULL, film, &cameras[i]) != 0)
            return EXIT_FAILURE;
    }

    pthread_t keeper;
    if (pthread_create(&keeper, NULL, keep, client) != 0)
        return EXIT_FAILURE;

    pi0rt_observation observation = {.struct_size = sizeof observation};
    pi0rt_completion completion = {.struct_size = sizeof completion};
    pi0rt_action_info about = {.struct_size = sizeof about};
    float action[MAX_ACTION_DIM] = {0};
    uint64_t chunks = 0, failed = 0, actions = 0, longest_ns = 0, due = pi0rt_now_ns();
    const uint64_t end = due + (uint64_t)(seconds * 1e9);
    int lent = lend(client, &observation, cameras), due_now;
    while ((due += PERIOD_NS) < end) {
        sleep_until(due);
        const uint64_t begun = pi0rt_now_ns();
        while (pi0rt_poll(client, &completion) == PI0RT_STATUS_OK)
            if (completion.status == PI0RT_STATUS_OK)
                chunks++;
            else if (completion.status != PI0RT_STATUS_GONE && completion.status != PI0RT_STATUS_RESTARTED)
                failed++;
        pi0rt_status status = pi0rt_action_at(client, begun, action, info.action_dim, &about);
        atomic_store(&gone, status == PI0RT_STATUS_GONE);
        actions += about.stage != PI0RT_STAGE_EMPTY; /* a robot would move here */
        due_now = (about.flags & PI0RT_ACTION_SUBMIT_NOW) != 0;
        if (!lent) {
            lent = lend(client, &observation, cameras);
        } else if (due_now && take(cameras, info.cameras)) {
            memset(observation.state, 0, observation.state_dim * sizeof(float)); /* joints' positions */
            observation.observed_ns = begun;
            for (uint32_t i = 0; i < observation.cameras; i++) {
                pi0rt_frame *frame = &observation.frames[i];
                frame->width = WIDTH, frame->height = HEIGHT, frame->format = PI0RT_FORMAT_YUYV;
                observation.frame_observed_ns[i] = cameras[i].observed_ns;
            }
            /* After a restart the slot was another daemon's. */
            if (pi0rt_submit(client, &observation, NULL) != PI0RT_STATUS_OK)
                pi0rt_observation_release(client, &observation);
            lent = lend(client, &observation, cameras);
        }
        const uint64_t took = pi0rt_now_ns() - begun;
        longest_ns = took > longest_ns ? took : longest_ns;
    }
    atomic_store(&ended, 1);
    pthread_join(keeper, NULL);
    for (uint32_t i = 0; i < info.cameras; i++) {
        atomic_store(&cameras[i].stop, 1);
        pthread_join(cameras[i].thread, NULL);
    }
    printf("cameras: chunks %" PRIu64 ", failed %" PRIu64 ", actions %" PRIu64 ", reconnects %" PRIu64
           ", longest tick %.1f us\n",
           chunks, failed, actions, reconnects, (double)longest_ns / 1e3);
    pi0rt_client_close(client);
    return chunks > 0 && failed == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}
