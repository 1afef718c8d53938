// Additions of the C++ header: sessions that close themselves, errors that are thrown.
#include <array>
#include <cstdio>
#include <cstdlib>
#include <type_traits>

#include <pi0rt.hpp>

#define CHECK(condition)                                                                       \
    do {                                                                                       \
        if (!(condition)) {                                                                    \
            std::fprintf(stderr, "%s:%d: %s\n", __FILE__, __LINE__, #condition);               \
            std::exit(1);                                                                      \
        }                                                                                      \
    } while (0)

static_assert(!std::is_copy_constructible_v<pi0rt::Client> && !std::is_copy_assignable_v<pi0rt::Client>);
static_assert(std::is_nothrow_move_constructible_v<pi0rt::Client>);
static_assert(std::is_nothrow_move_assignable_v<pi0rt::Client>);
static_assert(std::is_nothrow_destructible_v<pi0rt::Client>);
// The functions a control loop calls.
using C = pi0rt::Client;
template <typename T> T &a() noexcept;
static_assert(noexcept(a<C>().acquire(a<pi0rt::Observation>())) && noexcept(a<C>().release(a<pi0rt::Observation>())));
static_assert(noexcept(a<C>().submit(a<pi0rt::Observation>())) && noexcept(a<C>().poll(a<pi0rt::Completion>())));
static_assert(noexcept(a<C>().chunk_latest(a<pi0rt::Chunk>())) && noexcept(pi0rt::now_ns()));
static_assert(noexcept(a<C>().action_at(0, pi0rt::Span<float>())) && noexcept(a<C>().action_at(0, nullptr, 0)));
static_assert(noexcept(a<C>().motion_at(0, pi0rt::Span<float>(), pi0rt::Span<float>())) &&
              noexcept(a<C>().start_from(pi0rt::Span<const float>())) && noexcept(a<C>().try_reconnect()));
static_assert(noexcept(a<C>().wait(0, 0, a<pi0rt::Completion>())) && noexcept(a<C>().prompt(0, a<pi0rt::Prompt>())));
static_assert(noexcept(C::open(a<pi0rt_client_options>(), a<C>())) && noexcept(a<C>().close()));
static_assert(noexcept(a<pi0rt::Observation>().state_values()) && noexcept(a<pi0rt::Chunk>().row(0)));

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
    CHECK(!first && client);
    CHECK(first.poll(completion) == PI0RT_STATUS_INVALID_ARGUMENT);
    first = std::move(client);
    client = std::move(first);
    CHECK(client.cameras() == (std::vector<std::string>{"base", "wrist"}));
    CHECK(client.camera("wrist") == 1);
    CHECK(client.info().rate_hz == 50 && client.info().rate_source == PI0RT_RATE_SOURCE_CHECKPOINT);
    const std::vector<pi0rt::Dimension> state = client.state(), values = client.action();
    CHECK(state.size() == 3 && values.size() == 5 && values[4].quantity == PI0RT_QUANTITY_UNKNOWN);
    pi0rt::Dimension dimension;
    CHECK(client.dimension(PI0RT_VECTOR_ACTION, 5, dimension) == PI0RT_STATUS_INVALID_ARGUMENT);
    try {
        client.set_prompt("");
        CHECK(false);
    } catch (const pi0rt::Error &error) {
        CHECK(error.status() == PI0RT_STATUS_BAD_PROMPT);
    }

    pi0rt::Observation observation;
    observation.prompt_id = client.set_prompt("stack the cups");
    pi0rt::Prompt prompt;
    CHECK(client.prompt(0, prompt) == PI0RT_STATUS_OK && prompt.prompt_id == observation.prompt_id);
    CHECK(prompt.truncated == 0 && client.prompt(77, prompt) == PI0RT_STATUS_INVALID_ARGUMENT);
    CHECK(client.acquire(observation) == PI0RT_STATUS_OK);
    for (float &value : observation.state_values())
        value = 2;
    CHECK(observation.state_values().size() == 3);
    CHECK(observation.frame(0).size() == client.info().frame_bytes);
    CHECK(observation.frame(2).empty() && observation.frame(99).empty());
    observation.frame(1)[0] = 64;
    observation.describe(1, 1, 1, PI0RT_FORMAT_GRAY8);
    std::uint64_t ticket = 0;
    CHECK(client.submit(observation, &ticket) == PI0RT_STATUS_OK);
    CHECK(client.wait(ticket, 60'000'000'000, completion) == PI0RT_STATUS_OK);
    CHECK(completion.status == PI0RT_STATUS_OK);
    std::array<float, 5> action{};
    pi0rt::ActionInfo about;
    CHECK(client.action_at(completion.observed_ns + 20'000'000, action, &about) == PI0RT_STATUS_OK);
    CHECK(about.chunk == 1 && action[0] == 3.25f);
    std::vector<float> other(5);
    CHECK(client.action_at(completion.observed_ns + 20'000'000, other) == PI0RT_STATUS_OK && other[0] == 3.25f);
    CHECK(client.action_at(0, other.data(), 4) == PI0RT_STATUS_INVALID_ARGUMENT);
    std::array<float, 5> velocity{};
    CHECK(client.motion_at(completion.observed_ns + 21'000'000, other, velocity, &about) == PI0RT_STATUS_OK);
    CHECK(about.stage == PI0RT_STAGE_PLAY && about.ticket == ticket && velocity[0] == 0);
    CHECK(client.motion_at(0, other, pi0rt::Span<float>()) == PI0RT_STATUS_INVALID_ARGUMENT);
    const std::vector<float> start(5, 0.5f);
    CHECK(client.start_from(start) == PI0RT_STATUS_OK);
    CHECK(client.motion_at(completion.observed_ns + 20'000'000, other, velocity, &about) == PI0RT_STATUS_OK);
    CHECK(other == start);
    pi0rt::Chunk chunk;
    CHECK(chunk.values().empty() && chunk.row(0).empty());
    CHECK(client.chunk_latest(chunk) == PI0RT_STATUS_OK);
    pi0rt::Statistics statistics;
    CHECK(client.statistics(statistics) == PI0RT_STATUS_OK && statistics.published >= 1);
    CHECK(chunk.values().size() == 100 && chunk.row(19).size() == 5 && chunk.row(19)[4] == 21.25f);
    CHECK(chunk.row(20).empty());
    client.reset();
    CHECK(client.chunk_latest(chunk) == PI0RT_STATUS_EMPTY && chunk.values().empty());
    CHECK(client.close() == PI0RT_STATUS_OK && !client);
    CHECK(client.poll(completion) == PI0RT_STATUS_INVALID_ARGUMENT);
    CHECK(pi0rt::Client::open(options, client) == PI0RT_STATUS_OK && client.info().cameras == 2);
    std::puts("raii: done");
}
