/* A daemon that is killed, and a client that continues with the next one. */
#define _POSIX_C_SOURCE 199309L
#include <stdint.h>
#include <time.h>

#include "check.h"

static void submit(pi0rt_client *client, uint32_t prompt, uint64_t *ticket)
{
    pi0rt_observation observation = {.struct_size = sizeof observation, .prompt_id = prompt};
    IS(OK, pi0rt_observation_acquire(client, &observation));
    for (size_t i = 0; i < observation.state_dim; i++)
        observation.state[i] = 1;
    IS(OK, pi0rt_submit(client, &observation, ticket));
}

int main(int argc, char **argv)
{
    CHECK(argc == 2);
    IS(INVALID_ARGUMENT, pi0rt_client_reconnect(NULL));
    pi0rt_client_options options = options_for(argv[1]);
    options.gone_after_ns = 300000000;
    options.stale_after_ns = LONG_NS;
    pi0rt_client *client;
    IS(OK, pi0rt_client_open(&options, &client));
    uint32_t quick, slow;
    IS(OK, pi0rt_client_set_prompt(client, "stack the cups", &quick));
    IS(OK, pi0rt_client_set_prompt(client, "sleep 60000", &slow));
    pi0rt_completion completion = {.struct_size = sizeof completion};
    pi0rt_action_info about = {.struct_size = sizeof about};
    float action[5];
    uint64_t first, second, third;
    submit(client, quick, &first);
    IS(OK, pi0rt_wait(client, first, LONG_NS, &completion));
    IS(OK, pi0rt_action_at(client, completion.observed_ns, action, 5, &about));
    CHECK(about.chunk == 1 && about.stage == PI0RT_STAGE_PLAY && about.ticket == first);
    submit(client, slow, &second);

    /* The test kills the daemon now. */
    puts("submitted");
    fflush(stdout);
    uint64_t end = pi0rt_now_ns() + LONG_NS;
    pi0rt_status status;
    while ((status = pi0rt_poll(client, &completion)) == PI0RT_STATUS_EMPTY)
        CHECK(pi0rt_now_ns() < end);
    CHECK(status == PI0RT_STATUS_GONE);
    IS(NO_DAEMON, pi0rt_client_reconnect(client));
    /* The last chunk is still played meanwhile, and then held. */
    const uint64_t over = completion.observed_ns + LONG_NS / 100;
    while (pi0rt_now_ns() < over)
        nanosleep(&(struct timespec){.tv_nsec = 10000000}, NULL);
    IS(GONE, pi0rt_action_at(client, over, action, 5, &about));
    CHECK(about.chunk == 1 && about.stage > PI0RT_STAGE_PLAY && about.reason == PI0RT_REASON_PAST_END);
    const float held = action[0];

    /* The test starts the next daemon now. */
    puts("gone");
    fflush(stdout);
    while ((status = pi0rt_client_reconnect(client)) == PI0RT_STATUS_NO_DAEMON) {
        CHECK(pi0rt_now_ns() < end);
        struct timespec pause = {.tv_nsec = 10000000};
        nanosleep(&pause, NULL);
    }
    CHECK(status == PI0RT_STATUS_OK);
    IS(STALE, pi0rt_action_at(client, pi0rt_now_ns(), action, 5, &about));
    CHECK(about.chunk == 1 && action[0] == held && (about.flags & PI0RT_ACTION_SUBMIT_NOW) == 0);
    IS(OK, pi0rt_poll(client, &completion));
    CHECK(completion.ticket == second && completion.status == PI0RT_STATUS_GONE && completion.chunk == 0);
    IS(EMPTY, pi0rt_poll(client, &completion));
    submit(client, quick, &third);
    CHECK(third == second + 1);
    IS(OK, pi0rt_wait(client, third, LONG_NS, &completion));
    CHECK(completion.status == PI0RT_STATUS_OK);
    /* On a busy machine all its rows may be past by now: it isn't played then. */
    pi0rt_action_at(client, pi0rt_now_ns(), action, 5, &about);
    CHECK(about.ticket == third || about.reason == PI0RT_REASON_LATE);
    IS(OK, pi0rt_client_close(client));
    IS(CLOSED, pi0rt_client_reconnect(client));
    puts("reconnect: done");
    return 0;
}
