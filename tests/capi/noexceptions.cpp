// The C++ header in a program compiled without exceptions and without RTTI.
#include <cstdio>

#include <pi0rt.hpp>

int main(int argc, char **argv)
{
    pi0rt::Options options;
    options.socket_path = argc == 2 ? argv[1] : "";
    options.gone_after_ns = 20'000'000'000;
    pi0rt::Client client;
    pi0rt::Observation observation;
    pi0rt::Completion completion;
    std::uint64_t ticket = 0;
    if (client.acquire(observation) != PI0RT_STATUS_INVALID_ARGUMENT ||
        pi0rt::Client::open(options, client) != PI0RT_STATUS_OK ||
        pi0rt_client_set_prompt(client.get(), "stack the cups", &observation.prompt_id) != PI0RT_STATUS_OK ||
        client.acquire(observation) != PI0RT_STATUS_OK)
        return 1;
    for (float &value : observation.state_values())
        value = 1;
    if (client.submit(observation, &ticket) != PI0RT_STATUS_OK ||
        client.wait(ticket, 60'000'000'000, completion) != PI0RT_STATUS_OK || completion.status != PI0RT_STATUS_OK)
        return 1;
    std::puts("noexceptions: done");
}
