/* Unusable observations, and the reason reported for each.

   reasons SOCKET   (a daemon of the tests' engine that needs both cameras and has limits) */
#include <math.h>
#include <stdint.h>

#include "check.h"

enum { BASE, WRIST };

static pi0rt_client *client;
static pi0rt_completion completion;

/* Acquires a valid observation, to be damaged before it is submitted. */
static pi0rt_observation acquire(void)
{
    pi0rt_observation observation = {.struct_size = sizeof observation};
    IS(OK, pi0rt_observation_acquire(client, &observation));
    for (size_t i = 0; i < observation.state_dim; i++)
        observation.state[i] = 0.01f;
    for (int camera = BASE; camera <= WRIST; camera++) {
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
    CHECK(completion.ticket == ticket && (completion.chunk != 0) == (completion.status == PI0RT_STATUS_OK));
    return completion.status;
}

static void bad(pi0rt_observation *observation, pi0rt_completion_reason reason, int index, double value, const char *words)
{
    char expected[512];
    IS(BAD_OBSERVATION, answer(observation));
    CHECK(completion.reason == reason);
    CHECK(completion.index == index);
    CHECK(completion.value == value || (isnan(value) && isnan(completion.value)));
    snprintf(expected, sizeof expected, "ticket %llu: %s", (unsigned long long)completion.ticket, words);
    CHECK(last_error_is(expected));
}
#define BAD(observation, reason, index, value, words) \
    bad(observation, PI0RT_COMPLETION_REASON_##reason, index, value, words)

static void cameras(void)
{
    pi0rt_observation o = acquire();
    o.frames[WRIST].format = PI0RT_FORMAT_NONE;
    BAD(&o, MISSING_CAMERA, WRIST, 0,
        "camera wrist has no frame, and may not be missing unless the options' allow_missing_cameras is set");
    o = acquire();
    o.frames[BASE].format = o.frames[WRIST].format = PI0RT_FORMAT_NONE;
    IS(BAD_OBSERVATION, answer(&o));
    CHECK(completion.index == BASE);
}

static void state(void)
{
    pi0rt_observation o = acquire();
    o.state[2] = NAN;
    BAD(&o, NOT_FINITE, 2, NAN, "state[2] (left_gripper) is NaN, expected a finite number");
    o = acquire();
    o.state[0] = -INFINITY;
    BAD(&o, NOT_FINITE, 0, -INFINITY, "state[0] (waist) is -inf, expected a finite number");
    o = acquire();
    o.state[2] = 1e30f;
    BAD(&o, OUT_OF_LIMITS, 2, (double)1e30f, "state[2] (left_gripper) is 1e30, expected 0.0 to 0.08");
    /* A controller of another robot. */
    o = acquire();
    o.state_dim = 2;
    BAD(&o, STATE_COUNT, -1, 2, "state has 2 values, the policy's has 3");
    o = acquire();
    o.state_dim = (size_t)1 << 40;
    IS(BAD_OBSERVATION, answer(&o));
    /* A count of 0 means all. */
    o = acquire();
    o.state_dim = 0;
    IS(OK, answer(&o));
}

static void instructions(void)
{
    pi0rt_observation o = acquire();
    o.prompt_id = 77;
    BAD(&o, PROMPT, -1, 77, "no instruction has the number 77");
}

/* A slot's previous content is not an observation. */
static void old_content(void)
{
    pi0rt_observation o = acquire();
    IS(OK, answer(&o));
    uint32_t slot = o.slot;
    /* Everything is described as before, but nothing is written. */
    IS(OK, pi0rt_observation_acquire(client, &o));
    CHECK(o.slot == slot && o.frames[BASE].format == PI0RT_FORMAT_RGB8);
    BAD(&o, OLD_STATE, 0, 0, "state[0] (waist) was not written since the slot was acquired");
    IS(OK, pi0rt_observation_acquire(client, &o));
    o.state[0] = o.state[1] = 0;
    BAD(&o, OLD_STATE, 2, 0, "state[2] (left_gripper) was not written since the slot was acquired");
    IS(OK, pi0rt_observation_acquire(client, &o));
    o.state[0] = o.state[1] = o.state[2] = 0;
    memset(o.frames[BASE].data, 1, 48);
    BAD(&o, OLD_FRAME, WRIST, 0, "camera wrist: its frame was not written since the slot was acquired");
    /* Released and acquired again. */
    o = acquire();
    IS(OK, pi0rt_observation_release(client, &o));
    IS(OK, pi0rt_observation_acquire(client, &o));
    CHECK(o.slot == slot);
    IS(BAD_OBSERVATION, answer(&o));
    CHECK(completion.reason == PI0RT_COMPLETION_REASON_OLD_STATE);
    /* A frame too small for the marker counts as written. */
    o = acquire();
    o.frames[WRIST].width = 3, o.frames[WRIST].height = 1;
    IS(OK, answer(&o));
}

/* Valid ones have no reason and leave the last error unchanged. */
static void good(void)
{
    pi0rt_client_reset(NULL);
    pi0rt_observation o = acquire();
    IS(OK, answer(&o));
    CHECK(completion.reason == PI0RT_COMPLETION_REASON_NONE && completion.index == -1 && completion.value == 0);
    CHECK(last_error_is("client is NULL"));
}

int main(int argc, char **argv)
{
    CHECK(argc == 2);
    pi0rt_client_options options = options_for(argv[1]);
    options.slots = 2;
    IS(OK, pi0rt_client_open(&options, &client));
    pi0rt_observation o = acquire();
    BAD(&o, PROMPT, -1, 0, "no instruction is registered: pi0rt_client_set_prompt");
    IS(OK, pi0rt_client_set_prompt(client, "stack the cups", NULL));
    cameras();
    state();
    instructions();
    old_content();
    good();
    pi0rt_statistics statistics = {.struct_size = sizeof statistics};
    IS(OK, pi0rt_client_statistics(client, &statistics));
    CHECK(statistics.published == 4 && statistics.submitted == statistics.published + statistics.bad_observations);
    IS(OK, pi0rt_client_close(client));

    options.allow_missing_cameras = 1;
    IS(OK, pi0rt_client_open(&options, &client));
    IS(OK, pi0rt_client_set_prompt(client, "stack the cups", NULL));
    o = acquire();
    o.frames[BASE].format = PI0RT_FORMAT_NONE;
    IS(OK, answer(&o));
    IS(OK, pi0rt_client_close(client));
    options.allow_missing_cameras = 2;
    IS(INVALID_ARGUMENT, pi0rt_client_open(&options, &client));
    CHECK(last_error_is("options.allow_missing_cameras is 2, expected 0 or 1"));
    puts("reasons: done");
    return 0;
}
