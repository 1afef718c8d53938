/* Deadlines, and the daemon's statistics. */
#include <stdint.h>

#include "check.h"

static pi0rt_status answered(pi0rt_client *client, uint64_t deadline_ns)
{
    pi0rt_observation observation = {.struct_size = sizeof observation};
    pi0rt_completion completion = {.struct_size = sizeof completion};
    uint64_t ticket;
    IS(OK, pi0rt_observation_acquire(client, &observation));
    for (size_t i = 0; i < observation.state_dim; i++)
        observation.state[i] = 0;
    observation.deadline_ns = deadline_ns;
    IS(OK, pi0rt_submit(client, &observation, &ticket));
    IS(OK, pi0rt_wait(client, ticket, LONG_NS, &completion));
    CHECK((completion.chunk != 0) == (completion.status == PI0RT_STATUS_OK));
    return completion.status;
}

int main(int argc, char **argv)
{
    CHECK(argc == 2);
    pi0rt_client_options options = options_for(argv[1]);
    pi0rt_client *client;
    IS(OK, pi0rt_client_open(&options, &client));
    IS(OK, pi0rt_client_set_prompt(client, "stack the cups", NULL));
    for (int i = 0; i < 10; i++)
        IS(OK, answered(client, i % 2 ? 0 : pi0rt_now_ns() + LONG_NS));
    /* A chunk that would come too late is not computed. */
    IS(STALE, answered(client, pi0rt_now_ns()));

    pi0rt_statistics statistics = {.struct_size = sizeof statistics};
    IS(OK, pi0rt_client_statistics(client, &statistics));
    CHECK(statistics.submitted == 11 && statistics.published == 10 && statistics.superseded == 0);
    CHECK(statistics.stale == 1 && statistics.missed_deadlines == 1 && statistics.bad_observations == 0);
    CHECK(statistics.invalid_chunks == 0 && statistics.device_failures == 0);
    CHECK(statistics.inference.count == 10 && statistics.waiting.p50_ns <= statistics.waiting.max_ns);
    CHECK(statistics.age.mean_ns >= statistics.inference.mean_ns && statistics.age.p99_ns <= statistics.age.max_ns);
    /* Filled as far as it fits, for a program that knows fewer fields. */
    statistics.waiting.max_ns = 77;
    statistics.struct_size = 224;
    IS(OK, pi0rt_client_statistics(client, &statistics));
    CHECK(statistics.struct_size == 224 && statistics.waiting.max_ns != 77);
    IS(OK, pi0rt_client_close(client));
    puts("statistics: done");
    return 0;
}
