/* Observes another client's session, named "arm", which has had one chunk. */
#include "check.h"

int main(int argc, char **argv)
{
    CHECK(argc == 2);
    pi0rt_client_options options = options_for(argv[1]);
    pi0rt_client *client = NULL;
    options.session_name = "arm";
    IS(REFUSED, pi0rt_client_open(&options, &client));
    options.role = 2;
    IS(INVALID_ARGUMENT, pi0rt_client_open(&options, &client));
    CHECK(last_error_is("options.role is 2, expected a pi0rt_role"));
    options.role = PI0RT_ROLE_OBSERVER;
    options.session_name = "leg";
    IS(REFUSED, pi0rt_client_open(&options, &client));
    CHECK(last_error_is("daemon refused: there is no session called \"leg\"") && client == NULL);
    options.session_name = "\xff";
    IS(INVALID_ARGUMENT, pi0rt_client_open(&options, &client));
    options.session_name = "arm";
    IS(OK, pi0rt_client_open(&options, &client));

    pi0rt_policy_info info = {.struct_size = sizeof info};
    IS(OK, pi0rt_client_describe(client, &info));
    pi0rt_chunk chunk = {.struct_size = sizeof chunk};
    IS(OK, pi0rt_chunk_latest(client, &chunk));
    CHECK(chunk.chunk == 1 && chunk.actions[0] == 4 && chunk.horizon == info.horizon);
    pi0rt_action_info about = {.struct_size = sizeof about};
    float action[5];
    IS(OK, pi0rt_action_at(client, chunk.observed_ns, action, 5, &about));
    CHECK(about.chunk == 1 && action[0] == 4);
    pi0rt_statistics statistics = {.struct_size = sizeof statistics};
    IS(OK, pi0rt_client_statistics(client, &statistics));
    CHECK(statistics.published == 1);

    pi0rt_observation observation = {.struct_size = sizeof observation};
    pi0rt_completion completion = {.struct_size = sizeof completion};
    uint64_t ticket;
    IS(OBSERVER, pi0rt_observation_acquire(client, &observation));
    IS(OBSERVER, pi0rt_observation_release(client, &observation));
    IS(OBSERVER, pi0rt_submit(client, &observation, &ticket));
    IS(OBSERVER, pi0rt_poll(client, &completion));
    IS(OBSERVER, pi0rt_wait(client, 0, 0, &completion));
    IS(OBSERVER, pi0rt_client_set_prompt(client, "drop the cups", NULL));
    CHECK(last_error_is("client only observes: the instruction belongs to the session's writer"));
    IS(OBSERVER, pi0rt_client_reset(client));
    CHECK(pi0rt_client_fd(client) >= 0);
    IS(OK, pi0rt_client_reconnect(client));
    IS(OK, pi0rt_client_close(client));
    puts("observer: done");
    return 0;
}
