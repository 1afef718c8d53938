/* Times of other clocks: they never give a chunk or an action.

   clocks SOCKET   (a daemon of the tests' engine, without a limit to the age of observations) */
#define _GNU_SOURCE
#include <stdint.h>
#include <time.h>

#include "check.h"

#define SECOND ((uint64_t)1000000000)

static pi0rt_client *client;
static pi0rt_completion completion;

static uint64_t realtime_ns(void)
{
    struct timespec now;
    clock_gettime(CLOCK_REALTIME, &now);
    return (uint64_t)now.tv_sec * SECOND + (uint64_t)now.tv_nsec;
}

static pi0rt_observation acquire(void)
{
    pi0rt_observation observation = {.struct_size = sizeof observation};
    IS(OK, pi0rt_observation_acquire(client, &observation));
    for (size_t i = 0; i < observation.state_dim; i++)
        observation.state[i] = 0;
    for (uint32_t camera = 0; camera < observation.cameras; camera++) {
        pi0rt_frame *frame = &observation.frames[camera];
        memset(frame->data, 64, 48);
        frame->width = 4, frame->height = 4, frame->format = PI0RT_FORMAT_RGB8;
    }
    return observation;
}

static pi0rt_status answer(pi0rt_observation *observation)
{
    uint64_t ticket;
    completion = (pi0rt_completion){.struct_size = sizeof completion};
    IS(OK, pi0rt_submit(client, observation, &ticket));
    IS(OK, pi0rt_wait(client, ticket, LONG_NS, &completion));
    return completion.status;
}

static void refused(pi0rt_observation *observation, pi0rt_completion_reason reason, int index)
{
    char words[512];
    IS(BAD_OBSERVATION, answer(observation));
    CHECK(completion.reason == reason && completion.index == index && completion.chunk == 0);
    pi0rt_last_error(words, sizeof words);
    CHECK(strstr(words, "is it another clock's?"));
}
#define REFUSED(observation, reason, index) refused(observation, PI0RT_COMPLETION_REASON_##reason, index)

static void observed(void)
{
    pi0rt_observation o = acquire();
    o.observed_ns = realtime_ns();
    REFUSED(&o, FUTURE, -1);
    /* More than 49 days: the largest reported value. */
    CHECK(completion.value == 4294967295.0);
    o = acquire();
    o.observed_ns = pi0rt_now_ns() + 3 * SECOND;
    REFUSED(&o, FUTURE, -1);
    CHECK(completion.value > 2000 && completion.value <= 3000);
    o = acquire();
    o.observed_ns = UINT64_MAX;
    REFUSED(&o, FUTURE, -1);
    o = acquire();
    o.observed_ns = 1;
    REFUSED(&o, TOO_OLD, -1);
    o = acquire();
    o.observed_ns = pi0rt_now_ns() - 11 * SECOND;
    REFUSED(&o, TOO_OLD, -1);
    CHECK(completion.value >= 11000);
    /* The delay of a camera and its driver is fine. */
    o = acquire();
    o.observed_ns = pi0rt_now_ns() - SECOND;
    IS(OK, answer(&o));
}

static void frames(void)
{
    pi0rt_observation o = acquire();
    o.frame_observed_ns[1] = realtime_ns();
    REFUSED(&o, FUTURE, 1);
    o = acquire();
    o.frame_observed_ns[0] = 1;
    REFUSED(&o, TOO_OLD, 0);
    /* A camera without a frame has no time. */
    o = acquire();
    o.frames[0].format = PI0RT_FORMAT_NONE;
    o.frame_observed_ns[0] = 1;
    IS(OK, answer(&o));
    o = acquire();
    o.observed_ns = pi0rt_now_ns();
    o.frame_observed_ns[0] = o.observed_ns - SECOND / 50;
    o.frame_observed_ns[1] = o.observed_ns;
    IS(OK, answer(&o));
    CHECK(completion.observed_ns == o.observed_ns);
}

static void deadlines(void)
{
    pi0rt_observation o = acquire();
    o.deadline_ns = realtime_ns();
    REFUSED(&o, DEADLINE, -1);
    o = acquire();
    o.deadline_ns = SECOND / 20; /* a duration */
    REFUSED(&o, DEADLINE, -1);
    o = acquire();
    o.deadline_ns = pi0rt_now_ns();
    IS(STALE, answer(&o));
    CHECK(completion.reason == PI0RT_COMPLETION_REASON_DEADLINE_PASSED);
    o = acquire();
    o.deadline_ns = pi0rt_now_ns() + LONG_NS;
    IS(OK, answer(&o));
}

static void moments(void)
{
    pi0rt_observation o = acquire();
    IS(OK, answer(&o));
    const uint64_t at = completion.observed_ns;
    const uint64_t others[] = {0, 1, at - 2 * SECOND, pi0rt_now_ns() + 3600 * SECOND,
                               pi0rt_now_ns() + 2 * SECOND, realtime_ns(), UINT64_MAX};
    for (size_t i = 0; i < sizeof others / sizeof *others; i++) {
        float action[5] = {7, 7, 7, 7, 7};
        pi0rt_action_info about = {.struct_size = sizeof about};
        char words[512];
        IS(OTHER_CLOCK, pi0rt_action_at(client, others[i], action, 5, &about));
        CHECK(action[0] == 7 && about.chunk == 0);
        pi0rt_last_error(words, sizeof words);
        CHECK(strstr(words, "is it another clock's?"));
    }
    float action[5];
    pi0rt_action_info about = {.struct_size = sizeof about};
    IS(OK, pi0rt_action_at(client, at - SECOND / 1000, action, 5, &about));
    CHECK(about.reason == PI0RT_REASON_BEFORE_START && about.row == 0);
    IS(STALE, pi0rt_action_at(client, at + SECOND / 2, action, 5, &about));
    CHECK(about.reason == PI0RT_REASON_PAST_END && about.age_ns == SECOND / 2);
}

int main(int argc, char **argv)
{
    CHECK(argc == 2);
    pi0rt_client_options options = options_for(argv[1]);
    IS(OK, pi0rt_client_open(&options, &client));
    IS(OK, pi0rt_client_set_prompt(client, "stack the cups", NULL));
    observed();
    frames();
    deadlines();
    moments();
    /* None of it is in the statistics. */
    pi0rt_statistics statistics = {.struct_size = sizeof statistics};
    uint64_t end = pi0rt_now_ns() + LONG_NS;
    do {
        IS(OK, pi0rt_client_statistics(client, &statistics));
        CHECK(pi0rt_now_ns() < end);
    } while (statistics.age.count < 5);
    CHECK(statistics.published == 5 && statistics.bad_observations == 9 && statistics.stale == 1);
    CHECK(statistics.age.count == 5 && statistics.age.max_ns >= SECOND && statistics.age.max_ns < LONG_NS);
    CHECK(statistics.waiting.max_ns < LONG_NS && statistics.missed_deadlines == 1);
    IS(OK, pi0rt_client_close(client));
    puts("clocks: done");
    return 0;
}
