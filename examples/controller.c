/* cc -std=c11 -O2 -Wall -o controller controller.c $(pkg-config --cflags --libs pi0rt) -lm -pthread
 *
 * A controller that ticks 500 times a second: it submits an observation whenever one is due, polls in
 * each tick, and plays the command for the current time. Without a daemon the robot is brought to rest,
 * by stages; a second thread goes on with the next one, and the loop never waits for it.
 *
 *   ./controller --prompt "pick up the red block" --image base_0_rgb=base.ppm --seconds 5
 *
 * Cameras without an image get a synthetic one. Images are binary PPM (P6). --rate sets the number of rows
 * played per second, if neither the daemon's configuration nor its checkpoint declares it.
 */
#define _POSIX_C_SOURCE 200809L

#include <errno.h>
#include <math.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include <pi0rt.h>

#define PERIOD_NS 2000000u
#define MAX_TICKS (500 * 3600)

struct image {
    uint32_t width, height;
    uint8_t *rgb;
};

static volatile sig_atomic_t interrupted;
/* Between the loop and the thread that reconnects. */
static atomic_bool gone, ended;
static uint64_t reconnects;

static void interrupt(int signal)
{
    (void)signal;
    interrupted = 1;
}

static void fail(const char *what, pi0rt_status status)
{
    char words[512] = "";
    pi0rt_last_error(words, sizeof words);
    fprintf(stderr, "controller: %s: %s: %s\n", what, pi0rt_status_string(status), words);
    exit(EXIT_FAILURE);
}

/* Reads a number of a PPM header, after white space and comments. */
static int read_number(FILE *file, uint32_t *number)
{
    int c = getc(file);
    while (c == ' ' || c == '\t' || c == '\n' || c == '\r' || c == '#') {
        if (c == '#')
            while (c != '\n' && c != EOF)
                c = getc(file);
        else
            c = getc(file);
    }
    if (c < '0' || c > '9')
        return 0;
    for (*number = 0; c >= '0' && c <= '9' && *number < 100000; c = getc(file))
        *number = *number * 10 + (uint32_t)(c - '0');
    return 1; /* the one character after the number, required by the format, has been read */
}

static struct image read_ppm(const char *path)
{
    struct image image = {0, 0, NULL};
    uint32_t largest = 0;
    FILE *file = fopen(path, "rb");
    if (!file) {
        fprintf(stderr, "controller: %s: %s\n", path, strerror(errno));
        exit(EXIT_FAILURE);
    }
    if (getc(file) != 'P' || getc(file) != '6' || !read_number(file, &image.width) ||
        !read_number(file, &image.height) || !read_number(file, &largest) || largest != 255 ||
        image.width == 0 || image.width > 8192 || image.height == 0 || image.height > 8192) {
        fprintf(stderr, "controller: %s: not a binary PPM (P6) of 8 bits and at most 8192x8192\n", path);
        exit(EXIT_FAILURE);
    }
    size_t size = (size_t)image.width * image.height * 3;
    image.rgb = malloc(size);
    if (!image.rgb || fread(image.rgb, 1, size, file) != size) {
        fprintf(stderr, "controller: %s: fewer pixels than %ux%u\n", path, image.width, image.height);
        exit(EXIT_FAILURE);
    }
    fclose(file);
    return image;
}

static struct image make_image(uint32_t width, uint32_t height, uint32_t camera)
{
    struct image image = {width, height, malloc((size_t)width * height * 3)};
    if (!image.rgb)
        abort();
    for (uint32_t y = 0; y < height; y++)
        for (uint32_t x = 0; x < width; x++) {
            uint8_t *pixel = image.rgb + ((size_t)y * width + x) * 3;
            pixel[0] = (uint8_t)(x * 255 / width);
            pixel[1] = (uint8_t)(y * 255 / height);
            pixel[2] = (uint8_t)(64 * camera);
        }
    return image;
}

static int compare(const void *a, const void *b)
{
    uint32_t left = *(const uint32_t *)a, right = *(const uint32_t *)b;
    return (left > right) - (left < right);
}

/* Durations in nanoseconds, in memory allocated before the loop begins. */
struct durations {
    uint32_t *ns;
    size_t count, capacity;
};

static struct durations durations_of(size_t capacity)
{
    struct durations durations = {malloc(capacity * sizeof(uint32_t)), 0, capacity};
    if (!durations.ns)
        abort();
    memset(durations.ns, 0, capacity * sizeof(uint32_t));
    return durations;
}

static void add(struct durations *durations, uint64_t ns)
{
    if (durations->count < durations->capacity)
        durations->ns[durations->count++] = ns > UINT32_MAX ? UINT32_MAX : (uint32_t)ns;
}

static void print_durations(const char *name, struct durations *durations, double unit_ns, const char *unit)
{
    size_t n = durations->count;
    if (n == 0)
        return;
    qsort(durations->ns, n, sizeof(uint32_t), compare);
    printf("%-14s p50 %8.2f  p99 %8.2f  max %8.2f %s  (%zu)\n", name, durations->ns[n / 2] / unit_ns,
           durations->ns[n - 1 - n / 100] / unit_ns, durations->ns[n - 1] / unit_ns, unit, n);
}

/* Goes on with the next daemon when there is one: what may block has a thread of its own. */
static void *keep(void *client)
{
    while (!atomic_load(&ended)) {
        nanosleep(&(struct timespec){.tv_nsec = 100000000}, NULL);
        if (atomic_load(&gone) && pi0rt_client_reconnect(client) == PI0RT_STATUS_OK) {
            atomic_store(&gone, false);
            reconnects++;
        }
    }
    return NULL;
}

int main(int argc, char **argv)
{
    const char *socket_path = NULL, *prompt = "pick up the red block";
    const char *image_options[PI0RT_MAX_CAMERAS];
    int image_count = 0;
    double seconds = 5, rate_hz = 0;
    for (int i = 1; i < argc; i += 2) {
        const char *value = i + 1 < argc ? argv[i + 1] : NULL;
        if (value && strcmp(argv[i], "--socket") == 0)
            socket_path = value;
        else if (value && strcmp(argv[i], "--prompt") == 0)
            prompt = value;
        else if (value && strcmp(argv[i], "--seconds") == 0)
            seconds = atof(value);
        else if (value && strcmp(argv[i], "--rate") == 0)
            rate_hz = atof(value);
        else if (value && strcmp(argv[i], "--image") == 0 && image_count < PI0RT_MAX_CAMERAS)
            image_options[image_count++] = value;
        else {
            fprintf(stderr, "usage: controller [--socket PATH] [--prompt TEXT] [--seconds N] [--rate HZ] [--image CAMERA=FILE.ppm]...\n");
            return EXIT_FAILURE;
        }
    }
    if (!(seconds > 0 && seconds <= 3600)) {
        fprintf(stderr, "controller: --seconds has to be above 0 and at most 3600\n");
        return EXIT_FAILURE;
    }
    signal(SIGINT, interrupt);
    signal(SIGTERM, interrupt);

    if (pi0rt_version() != PI0RT_ABI_VERSION) {
        fprintf(stderr, "controller: compiled for ABI %d, the library has %u\n", PI0RT_ABI_VERSION, pi0rt_version());
        return EXIT_FAILURE;
    }
    pi0rt_client_options options = {
        .struct_size = sizeof options,
        .socket_path = socket_path,
        .interpolation = PI0RT_INTERPOLATION_LINEAR,
        .control_rate_hz = (float)rate_hz,
    };
    pi0rt_client *client;
    pi0rt_status status = pi0rt_client_open(&options, &client);
    if (status != PI0RT_STATUS_OK)
        fail("open", status);
    pi0rt_policy_info info = {.struct_size = sizeof info};
    if ((status = pi0rt_client_describe(client, &info)) != PI0RT_STATUS_OK)
        fail("describe", status);
    printf("model %s on %s: %u cameras, state %u, chunks of %u actions of %u\n", info.model, info.device,
           info.cameras, info.state_dim, info.horizon, info.action_dim);
    if (info.rate_source == PI0RT_RATE_SOURCE_NONE) {
        fprintf(stderr, "controller: nothing declares a control rate: give --rate, or set it in the daemon's configuration\n");
        return EXIT_FAILURE;
    }
    printf("control rate %g Hz\n", info.rate_hz);
    uint32_t prompt_id;
    if ((status = pi0rt_client_set_prompt(client, prompt, &prompt_id)) != PI0RT_STATUS_OK)
        fail("prompt", status);

    struct image images[PI0RT_MAX_CAMERAS] = {{0, 0, NULL}};
    for (int i = 0; i < image_count; i++) {
        char name[PI0RT_NAME_BYTES];
        const char *equals = strchr(image_options[i], '=');
        size_t length = equals ? (size_t)(equals - image_options[i]) : 0;
        uint32_t camera;
        if (!equals || length >= sizeof name) {
            fprintf(stderr, "controller: --image %s: expected CAMERA=FILE.ppm\n", image_options[i]);
            return EXIT_FAILURE;
        }
        memcpy(name, image_options[i], length);
        name[length] = '\0';
        if ((status = pi0rt_client_camera(client, name, &camera)) != PI0RT_STATUS_OK)
            fail("camera", status);
        free(images[camera].rgb);
        images[camera] = read_ppm(equals + 1);
    }
    for (uint32_t camera = 0; camera < info.cameras; camera++)
        if (!images[camera].rgb)
            images[camera] = make_image(320, 240, camera);

    /* Everything the loop needs is allocated before it begins. */
    size_t ticks = (size_t)(seconds * 1e9 / PERIOD_NS);
    if (ticks > MAX_TICKS)
        ticks = MAX_TICKS;
    struct durations submit = durations_of(ticks), poll = durations_of(ticks), act = durations_of(ticks),
                     latency = durations_of(ticks), age = durations_of(ticks);
    float *action = calloc(info.action_dim, sizeof *action);
    if (!action)
        return EXIT_FAILURE;
    pi0rt_observation observation = {.struct_size = sizeof observation, .prompt_id = prompt_id};
    pi0rt_completion completion = {.struct_size = sizeof completion};
    pi0rt_action_info about = {.struct_size = sizeof about};
    uint64_t missed = 0, held = 0, failed = 0;
    char why[512] = "";
    /* The robot's present command, as its encoders say: limits count from there. Here they say 0. */
    if ((status = pi0rt_start_from(client, action, info.action_dim)) != PI0RT_STATUS_OK)
        fail("start", status);
    pthread_t keeper;
    if (pthread_create(&keeper, NULL, keep, client) != 0)
        return EXIT_FAILURE;

    struct timespec next;
    clock_gettime(CLOCK_MONOTONIC, &next);
    for (size_t tick = 0; tick < ticks && !interrupted; tick++) {
        next.tv_nsec += PERIOD_NS;
        if (next.tv_nsec >= 1000000000) {
            next.tv_nsec -= 1000000000;
            next.tv_sec++;
        }
        while (clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &next, NULL) == EINTR && !interrupted)
            ;
        uint64_t intended = (uint64_t)next.tv_sec * 1000000000u + (uint64_t)next.tv_nsec;
        uint64_t now = pi0rt_now_ns();
        if (now - intended > PERIOD_NS)
            missed++;

        uint64_t before = now;
        status = pi0rt_poll(client, &completion);
        add(&poll, pi0rt_now_ns() - before);
        if (status == PI0RT_STATUS_OK) {
            if (completion.status == PI0RT_STATUS_OK) {
                add(&latency, completion.finished_ns - completion.submitted_ns);
            } else if (completion.status != PI0RT_STATUS_GONE && completion.status != PI0RT_STATUS_RESTARTED) {
                failed++;
                pi0rt_last_error(why, sizeof why);
            }
        }

        before = pi0rt_now_ns();
        status = pi0rt_action_at(client, before, action, info.action_dim, &about);
        add(&act, pi0rt_now_ns() - before);
        atomic_store(&gone, status == PI0RT_STATUS_GONE);
        /* Whatever the daemon does, there is a command: the robot would get it here. */
        if (about.stage == PI0RT_STAGE_PLAY)
            add(&age, about.age_ns);
        else if (about.stage != PI0RT_STAGE_EMPTY)
            held++;
        if (status == PI0RT_STATUS_NO_RATE || status == PI0RT_STATUS_INVALID_ARGUMENT)
            fail("action", status);

        if (about.flags & PI0RT_ACTION_SUBMIT_NOW) {
            if (pi0rt_observation_acquire(client, &observation) != PI0RT_STATUS_OK)
                continue; /* all slots are in use: later */
            /* A driver would have the frames written here. */
            for (uint32_t camera = 0; camera < observation.cameras; camera++) {
                pi0rt_frame *frame = &observation.frames[camera];
                size_t size = (size_t)images[camera].width * images[camera].height * 3;
                if (size > frame->capacity) {
                    fprintf(stderr, "controller: %s is too large: %zu bytes, %zu fit\n",
                            info.camera_names[camera], size, frame->capacity);
                    return EXIT_FAILURE;
                }
                memcpy(frame->data, images[camera].rgb, size);
                frame->width = images[camera].width;
                frame->height = images[camera].height;
                frame->format = PI0RT_FORMAT_RGB8;
            }
            for (size_t i = 0; i < observation.state_dim; i++)
                observation.state[i] = 0.1f * sinf((float)tick / 250.0f + (float)i);
            observation.observed_ns = pi0rt_now_ns();
            before = pi0rt_now_ns();
            status = pi0rt_submit(client, &observation, NULL);
            add(&submit, pi0rt_now_ns() - before);
            if (status != PI0RT_STATUS_OK)
                pi0rt_observation_release(client, &observation);
        }
    }

    atomic_store(&ended, true);
    pthread_join(keeper, NULL);
    size_t chunks = latency.count, played = age.count;
    printf("chunks %zu, failed %llu, actions %zu, held or stopping %llu, missed ticks %llu, reconnects %llu\n",
           chunks, (unsigned long long)failed, played, (unsigned long long)held, (unsigned long long)missed,
           (unsigned long long)reconnects);
    if (failed > 0)
        printf("last failure   %s\n", why);
    print_durations("chunk latency", &latency, 1e6, "ms");
    print_durations("action age", &age, 1e6, "ms");
    print_durations("submit", &submit, 1e3, "us");
    print_durations("poll", &poll, 1e3, "us");
    print_durations("action_at", &act, 1e3, "us");

    pi0rt_client_close(client);
    for (uint32_t camera = 0; camera < info.cameras; camera++)
        free(images[camera].rgb);
    free(action);
    free(submit.ns);
    free(poll.ns);
    free(act.ns);
    free(latency.ns);
    free(age.ns);
    return chunks > 0 && failed == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}
