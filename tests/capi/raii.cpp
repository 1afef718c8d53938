// What the C++ header adds: sessions that close themselves, errors that are thrown.
#include <array>
#include <cstdio>
#include <cstdlib>
#include <type_traits>

#include <pi0rt.hpp>
#if __cplusplus >= 202002L
#include <span>
#endif

#define CHECK(condition)                                                                       \
    do {                                                                                       \
        if (!(condition)) {                                                                    \
            std::fprintf(stderr, "%s:%d: %s\n", __FILE__, __LINE__, #condition);               \
            std::exit(1);                                                                      \
        }                                                                                      \
    } while (0)

static_assert(!std::is_copy_constructible_v<pi0rt::Client>);
static_assert(std::is_nothrow_move_constructible_v<pi0rt::Client>);
static_assert(noexcept(std::declval<pi0rt::Client &>().poll(std::declval<pi0rt::Completion &>())));

int main(int argc, char **argv)
{
    CHECK(argc == 2);
    try {
        pi0rt::Client nobody("/nonexistent/pi0rt.sock");
        CHECK(false);
    } catch (const pi0rt::Error &error) {
        CHECK(error.status() == PI0RT_STATUS_NO_DAEMON);
        CHECK(std::string(error.what()).find("/nonexistent/pi0rt.sock") != std::string::npos);
    }
    pi0rt::Options options;
    options.socket_path = argv[1];
    options.gone_after_ns = 20'000'000'000;
    pi0rt::Client first(options);
    pi0rt::Client client(std::move(first));
    CHECK(first.fd() == -1);
    pi0rt::Completion completion;
    CHECK(first.poll(completion) == PI0RT_STATUS_INVALID_ARGUMENT);
    CHECK(client.cameras() == (std::vector<std::string>{"base", "wrist"}));
    CHECK(client.camera("wrist") == 1);
    try {
        client.set_prompt("");
        CHECK(false);
    } catch (const pi0rt::Error &error) {
        CHECK(error.status() == PI0RT_STATUS_BAD_PROMPT);
    }

    pi0rt::Observation observation;
    observation.prompt_id = client.set_prompt("stack the cups");
    CHECK(client.acquire(observation) == PI0RT_STATUS_OK);
    for (float &value : observation.state_values())
        value = 2;
#if __cplusplus >= 202002L
    auto values = observation.state_values();
    CHECK(std::span<float>(values).size() == 3);
#endif
    std::uint64_t ticket = 0;
    CHECK(client.submit(observation, &ticket) == PI0RT_STATUS_OK);
    CHECK(client.wait(ticket, 60'000'000'000, completion) == PI0RT_STATUS_OK);
    CHECK(completion.status == PI0RT_STATUS_OK);
    std::array<float, 5> action{};
    pi0rt::ActionInfo about;
    CHECK(client.action_at(completion.observed_ns + 20'000'000, action, &about) == PI0RT_STATUS_OK);
    CHECK(about.chunk == 1 && action[0] == 3);
    pi0rt::Chunk chunk;
    client.reset();
    CHECK(client.chunk_latest(chunk) == PI0RT_STATUS_EMPTY);
    std::puts("raii: done");
}
