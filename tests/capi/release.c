/* A controller of an earlier release, compiled with that release's header and run with its library: covers all
   the library says to a daemon and reads of it. The daemon is killed meanwhile, and another one started. */
#define _POSIX_C_SOURCE 199309L
#include <stdint.h>
#include <time.h>

#include "check.h"

static void rest(void)
{
    struct timespec pause = {.tv_nsec = 1000000};
    nanosleep(&pause, NULL);
}

static uint64_t submit(pi0rt_client *client, uint32_t camera, uint32_t prompt, float state)
{
    pi0rt_observation observation = {.struct_size = sizeof observation, .prompt_id = prompt};
    uint64_t ticket;
    IS(OK, pi0rt_observation_acquire(client, &observation));
    CHECK(observation.cameras == 2 && observation.state_dim == 3);
    for (size_t i = 0; i < observation.state_dim; i++)
        observation.state[i] = state + (float)i;
    pi0rt_frame *frame = &observation.frames[camera];
    frame->width = 6, frame->height = 2, frame->format = PI0RT_FORMAT_BGR8;
    memset(frame->data, 64, 36);
    observation.observed_ns = pi0rt_now_ns();
    observation.deadline_ns = observation.observed_ns + LONG_NS;
    IS(OK, pi0rt_submit(client, &observation, &ticket));
    return ticket;
}

static pi0rt_completion answer(pi0rt_client *client)
{
    pi0rt_completion completion = {.struct_size = sizeof completion};
    uint64_t end = pi0rt_now_ns() + LONG_NS;
    pi0rt_status status;
    while ((status = pi0rt_poll(client, &completion)) == PI0RT_STATUS_EMPTY) {
        CHECK(pi0rt_now_ns() < end);
        rest();
    }
    CHECK(status == PI0RT_STATUS_OK);
    return completion;
}

/* The chunk of state, state + 1, state + 2, and an action between its rows 2 and 3. */
static void look(pi0rt_client *client, uint64_t number, float state)
{
    pi0rt_chunk chunk = {.struct_size = sizeof chunk};
    pi0rt_action_info about = {.struct_size = sizeof about};
    float action[5];
    IS(OK, pi0rt_chunk_latest(client, &chunk));
    CHECK(chunk.chunk == number && chunk.horizon == 20 && chunk.action_dim == 5);
    for (uint32_t i = 0; i < 100; i++)
        CHECK(chunk.actions[i] == (float)(i / 5) + state + (float)(i % 5 % 3) + 0.25f);
    IS(OK, pi0rt_action_at(client, chunk.observed_ns + 45000000, action, 5, &about));
    CHECK(about.chunk == number && about.age_ns == 45000000 && about.reason == PI0RT_REASON_IN_CHUNK);
    CHECK(action[4] == chunk.actions[14]);
}

int main(int argc, char **argv)
{
    CHECK(argc == 2);
    CHECK(pi0rt_version() == PI0RT_ABI_VERSION);
    pi0rt_client_options options = options_for(argv[1]);
    options.session_name = "arm";
    pi0rt_client *client, *observer;
    IS(OK, pi0rt_client_open(&options, &client));
    options.role = PI0RT_ROLE_OBSERVER;
    IS(OK, pi0rt_client_open(&options, &observer));

    pi0rt_policy_info info = {.struct_size = sizeof info};
    IS(OK, pi0rt_client_describe(client, &info));
    CHECK(strcmp(info.model, "sums") == 0 && strcmp(info.camera_names[1], "wrist") == 0);
    CHECK(info.cameras == 2 && info.state_dim == 3 && info.action_dim == 5 && info.horizon == 20);
    uint32_t wrist, quick, slow;
    IS(OK, pi0rt_client_camera(client, "wrist", &wrist));
    IS(OK, pi0rt_client_set_prompt(client, "stack the cups", &quick));
    IS(OK, pi0rt_client_set_prompt(client, "sleep 60000", &slow));
    CHECK(wrist == 1 && quick == 1 && slow == 2);

    for (uint64_t round = 1; round <= 20; round++) {
        uint64_t ticket = submit(client, wrist, quick, (float)round * 0.5f);
        pi0rt_completion completion = answer(client);
        CHECK(completion.ticket == ticket && completion.status == PI0RT_STATUS_OK && completion.chunk == round);
        CHECK(completion.observed_ns <= completion.finished_ns && completion.started_ns <= completion.finished_ns);
        look(client, round, (float)round * 0.5f);
        look(observer, round, (float)round * 0.5f);
    }
    pi0rt_statistics statistics = {.struct_size = sizeof statistics};
    IS(OK, pi0rt_client_statistics(observer, &statistics));
    CHECK(statistics.submitted == 20 && statistics.published == 20 && statistics.missed_deadlines == 0);
    /* From now on the daemon sends a message for each answer, and its end is detected at once. */
    pi0rt_completion completion = {.struct_size = sizeof completion};
    CHECK(pi0rt_client_fd(client) >= 0);
    uint64_t ticket = submit(client, wrist, quick, 7);
    IS(OK, pi0rt_wait(client, ticket, LONG_NS, &completion));
    look(client, 21, 7);
    ticket = submit(client, wrist, slow, 0);

    /* The test kills the daemon now. */
    puts("submitted");
    fflush(stdout);
    uint64_t end = pi0rt_now_ns() + LONG_NS;
    pi0rt_status status;
    while ((status = pi0rt_poll(client, &completion)) == PI0RT_STATUS_EMPTY) {
        CHECK(pi0rt_now_ns() < end);
        rest();
    }
    CHECK(status == PI0RT_STATUS_GONE);

    /* The test starts the next daemon now. */
    puts("gone");
    fflush(stdout);
    /* That library returns GONE when it reaches a daemon that is about to end. */
    while ((status = pi0rt_client_reconnect(client)) == PI0RT_STATUS_NO_DAEMON || status == PI0RT_STATUS_GONE) {
        CHECK(pi0rt_now_ns() < end);
        rest();
    }
    CHECK(status == PI0RT_STATUS_OK);
    completion = answer(client);
    CHECK(completion.ticket == ticket && completion.status == PI0RT_STATUS_GONE);
    CHECK(submit(client, wrist, quick, 3) == ticket + 1);
    completion = answer(client);
    CHECK(completion.ticket == ticket + 1 && completion.status == PI0RT_STATUS_OK);
    look(client, completion.chunk, 3);
    IS(OK, pi0rt_client_reset(client));
    pi0rt_chunk chunk = {.struct_size = sizeof chunk};
    IS(EMPTY, pi0rt_chunk_latest(client, &chunk));
    IS(OK, pi0rt_client_close(observer));
    IS(OK, pi0rt_client_close(client));
    puts("release: done");
    return 0;
}
