/* Commands at 1 kHz, whatever becomes of the chunks: none is missing, none breaks a limit, none jumps.

   motion SOCKET PROMPT late N   until N chunks were played, each of them long after its observation
   motion SOCKET PROMPT outage   until the daemon was killed, the robot is stopped, and the next daemon's chunks are played
   motion SOCKET PROMPT restart  until a restarted daemon has gone on with the session

   The policy is that of tests/player.rs: two positions within -2 to 2, 1 per s, 10 per s^2; 20 rows at 50 Hz. */
#define _GNU_SOURCE

#include <math.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdint.h>
#include <time.h>

#include "check.h"

#define TICK_NS 1000000u
#define ROWS_NS 400000000u
#define HOLD_NS 150000000u
#define DECELERATE_NS 100000000u
enum { DIM = 2 };

static pi0rt_client *client;
static atomic_bool gone, ended;
/* How often this thread was told of a restart. */
static uint64_t restarts;

static void *keep(void *unused)
{
    while (!atomic_load(&ended)) {
        nanosleep(&(struct timespec){.tv_nsec = 5000000}, NULL);
        if (atomic_load(&gone) && pi0rt_client_reconnect(client) == PI0RT_STATUS_OK)
            atomic_store(&gone, 0);
    }
    return unused;
}

/* The command before, its change per second, and when it was due. */
static struct {
    uint64_t t_ns;
    float action[DIM];
    double change[DIM];
    int count;
} last;

static void check_limits(uint64_t t_ns, const float *action)
{
    double dt = (double)(t_ns - last.t_ns) * 1e-9, rounding = 2e-7 / dt;
    for (int i = 0; i < DIM; i++) {
        double change = ((double)action[i] - (double)last.action[i]) / dt;
        CHECK(fabsf(action[i]) <= 2);
        if (last.count > 0)
            CHECK(fabs(change) <= 1 + rounding);
        /* After a pause the robot counts as standing still. */
        if (last.count > 1 && dt < 0.2)
            CHECK(fabs(change - last.change[i]) <= 10 * dt + 2 * rounding);
        last.change[i] = change, last.action[i] = action[i];
    }
    last.t_ns = t_ns;
    last.count++;
}

/* One tick; late ones are left out. */
static pi0rt_status tick(pi0rt_action_info *about)
{
    static uint64_t t_ns;
    uint64_t now = pi0rt_now_ns();
    t_ns = t_ns + TICK_NS > now ? t_ns + TICK_NS : now;
    struct timespec until = {.tv_sec = (time_t)(t_ns / 1000000000u), .tv_nsec = (long)(t_ns % 1000000000u)};
    clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &until, NULL);
    pi0rt_completion completion = {.struct_size = sizeof completion};
    pi0rt_status polled;
    while ((polled = pi0rt_poll(client, &completion)) == PI0RT_STATUS_OK)
        ;
    float action[DIM], velocity[DIM];
    *about = (pi0rt_action_info){.struct_size = sizeof *about};
    pi0rt_status status = pi0rt_motion_at(client, t_ns, action, velocity, DIM, about);
    atomic_store(&gone, status == PI0RT_STATUS_GONE);
    restarts += (polled == PI0RT_STATUS_RESTARTED) + (status == PI0RT_STATUS_RESTARTED);
    if (about->flags & PI0RT_ACTION_SUBMIT_NOW) {
        pi0rt_observation observation = {.struct_size = sizeof observation};
        if (pi0rt_observation_acquire(client, &observation) == PI0RT_STATUS_OK) {
            observation.state[0] = 0.5f;
            if (pi0rt_submit(client, &observation, NULL) != PI0RT_STATUS_OK)
                pi0rt_observation_release(client, &observation);
        }
    }
    if (about->stage == PI0RT_STAGE_EMPTY) {
        CHECK(last.count == 0); /* a tick without a command after one with one */
        return status;
    }
    CHECK(status == PI0RT_STATUS_OK || status == PI0RT_STATUS_STALE || status == PI0RT_STATUS_GONE ||
          status == PI0RT_STATUS_RESTARTED);
    CHECK(status != PI0RT_STATUS_OK || about->stage == PI0RT_STAGE_PLAY);
    CHECK(fabsf(velocity[0]) <= 1 && fabsf(velocity[1]) <= 1);
    check_limits(t_ns, action);
    return status;
}

/* What the stage has to be so long after the observation of the last chunk. */
static pi0rt_stage stage_at(uint64_t age_ns)
{
    return age_ns < ROWS_NS                             ? PI0RT_STAGE_PLAY
           : age_ns < ROWS_NS + HOLD_NS                 ? PI0RT_STAGE_HOLD
           : age_ns < ROWS_NS + HOLD_NS + DECELERATE_NS ? PI0RT_STAGE_DECELERATE
                                                        : PI0RT_STAGE_SAFE_STOP;
}

static void say(const char *word)
{
    puts(word);
    fflush(stdout);
}

int main(int argc, char **argv)
{
    CHECK(argc >= 4);
    pi0rt_client_options options = options_for(argv[1]);
    int late = strcmp(argv[3], "late") == 0, outage = strcmp(argv[3], "outage") == 0;
    if (outage)
        options.gone_after_ns = 100000000;
    options.hold_ns = HOLD_NS, options.decelerate_ns = DECELERATE_NS;
    IS(OK, pi0rt_client_open(&options, &client));
    IS(OK, pi0rt_client_set_prompt(client, argv[2], NULL));
    pi0rt_action_info about;
    const uint64_t enough = late ? strtoull(argv[4], NULL, 10) : 3, end = pi0rt_now_ns() + LONG_NS;
    do
        CHECK((tick(&about), pi0rt_now_ns() < end));
    while (about.chunk < enough || (late && about.delay_rows < 8));
    const uint64_t ticket = about.ticket;
    if (outage) {
        say("played");
        pi0rt_stage before = about.stage;
        for (int was_gone = 0; !was_gone || about.stage != PI0RT_STAGE_SAFE_STOP; before = about.stage) {
            was_gone |= tick(&about) == PI0RT_STATUS_GONE;
            /* Until it is killed there may be further chunks. */
            CHECK(about.stage == stage_at(about.age_ns) && (about.stage >= before || about.ticket > ticket));
            CHECK(pi0rt_now_ns() < end);
        }
        say("stopped");
        pthread_t keeper;
        CHECK(pthread_create(&keeper, NULL, keep, NULL) == 0);
        while (tick(&about) != PI0RT_STATUS_OK || about.ticket <= ticket)
            CHECK(pi0rt_now_ns() < end);
        atomic_store(&ended, 1);
        pthread_join(keeper, NULL);
    } else if (!late) {
        say("played");
        /* Chunks of the next daemon are played. */
        for (uint64_t since = 0; restarts == 0 || about.ticket <= since || about.stage != PI0RT_STAGE_PLAY;) {
            const uint64_t before = restarts;
            tick(&about);
            since = restarts > before ? about.ticket : since;
            CHECK(restarts <= 1 && pi0rt_now_ns() < end);
        }
    }
    IS(OK, pi0rt_client_close(client));
    say("motion: done");
    return 0;
}
