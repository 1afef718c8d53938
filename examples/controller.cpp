// c++ -std=c++17 -O2 -Wall -o controller_cpp controller.cpp $(pkg-config --cflags --libs pi0rt) -pthread
//
// The loop of controller.c with the C++ header: 500 ticks a second, an observation submitted
// whenever one is due, a command in each tick, whatever becomes of the daemon. A second thread goes
// on with the next daemon.
//
//   ./controller_cpp [SOCKET [SECONDS [PROMPT [RATE_HZ]]]]

#include <algorithm>
#include <atomic>
#include <chrono>
#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <ctime>
#include <exception>
#include <string>
#include <thread>
#include <vector>

#include <pi0rt.hpp>

namespace {

constexpr std::uint64_t period_ns = 2'000'000;
constexpr auto retry = std::chrono::milliseconds(100);

// Goes on with the next daemon when there is one: what may block has a thread of its own.
class Keeper {
public:
    explicit Keeper(pi0rt::Client &client)
        : thread_([this, &client] {
              while (!ended_) {
                  std::this_thread::sleep_for(retry);
                  if (gone_ && client.try_reconnect() == PI0RT_STATUS_OK) {
                      gone_ = false;
                      reconnects++;
                  }
              }
          })
    {
    }

    ~Keeper()
    {
        ended_ = true;
        thread_.join();
    }

    void hear(pi0rt_status status)
    {
        gone_ = status == PI0RT_STATUS_GONE;
    }

    std::atomic<unsigned> reconnects{0};

private:
    std::atomic<bool> gone_{false}, ended_{false};
    std::thread thread_;
};

// A camera's picture; a driver would write it directly into the frame.
std::vector<std::uint8_t> picture(std::uint32_t width, std::uint32_t height)
{
    std::vector<std::uint8_t> rgb;
    for (std::uint32_t y = 0; y < height; y++)
        for (std::uint32_t x = 0; x < width; x++)
            for (std::uint32_t value : {x * 255 / width, y * 255 / height, 128u})
                rgb.push_back(static_cast<std::uint8_t>(value));
    return rgb;
}

void sleep_until(std::uint64_t t_ns)
{
    const timespec t{static_cast<time_t>(t_ns / 1'000'000'000), static_cast<long>(t_ns % 1'000'000'000)};
    while (clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &t, nullptr) != 0)
        ;
}

void print(const char *name, std::vector<std::uint64_t> &ns)
{
    if (ns.empty())
        return;
    std::sort(ns.begin(), ns.end());
    std::printf("%-14s p50 %10.1f  p99 %10.1f  max %10.1f us  (%zu)\n", name, 1e-3 * double(ns[ns.size() / 2]),
                1e-3 * double(ns[ns.size() - 1 - ns.size() / 100]), 1e-3 * double(ns.back()), ns.size());
}

int control(const std::string &socket, double seconds, const std::string &prompt, float rate_hz)
{
    pi0rt::Options options;
    options.socket_path = socket.empty() ? nullptr : socket.c_str();
    options.interpolation = PI0RT_INTERPOLATION_LINEAR;
    options.control_rate_hz = rate_hz; // 0: as the daemon says
    pi0rt::Client client(options);
    const auto &info = client.info();
    std::printf("model %s on %s, control rate %g Hz\n", info.model, info.device, double(info.rate_hz));

    pi0rt::Observation observation;
    observation.prompt_id = client.set_prompt(prompt);
    const auto rgb = picture(320, 240);
    if (rgb.size() > info.frame_bytes)
        throw std::runtime_error("the session's frames are too small");
    for (std::size_t camera = 0; camera < info.cameras; camera++)
        observation.describe(camera, 320, 240, PI0RT_FORMAT_RGB8);

    if (info.rate_source == PI0RT_RATE_SOURCE_NONE)
        throw std::runtime_error("nothing declares a control rate: give RATE_HZ");
    const auto ticks = static_cast<std::size_t>(seconds * 1e9 / double(period_ns));
    std::vector<float> action(info.action_dim);
    std::vector<std::uint64_t> latency, age, submit;
    for (auto *durations : {&latency, &age, &submit})
        durations->reserve(ticks);
    pi0rt::Completion completion;
    pi0rt::ActionInfo about;
    std::size_t failed = 0, held = 0, missed = 0;
    // The robot's present command, as its encoders say: limits count from there. Here they say 0.
    if (client.start_from(action) != PI0RT_STATUS_OK)
        throw std::runtime_error("the robot is outside its limits");
    Keeper keeper(client);

    std::uint64_t next = pi0rt::now_ns();
    for (std::size_t tick = 0; tick < ticks; tick++) {
        next += period_ns;
        sleep_until(next);
        if (pi0rt::now_ns() - next > period_ns)
            missed++;

        if (client.poll(completion) == PI0RT_STATUS_OK) {
            if (completion.status == PI0RT_STATUS_OK)
                latency.push_back(completion.finished_ns - completion.submitted_ns);
            else if (completion.status != PI0RT_STATUS_GONE && completion.status != PI0RT_STATUS_RESTARTED)
                failed++;
        }

        // Whatever the daemon does, there is a command: the robot would get it here.
        keeper.hear(client.action_at(pi0rt::now_ns(), action, &about));
        if (about.stage == PI0RT_STAGE_PLAY)
            age.push_back(about.age_ns);
        else if (about.stage != PI0RT_STAGE_EMPTY)
            held++;

        if ((about.flags & PI0RT_ACTION_SUBMIT_NOW) && client.acquire(observation) == PI0RT_STATUS_OK) {
            for (std::size_t camera = 0; camera < info.cameras; camera++)
                std::memcpy(observation.frames[camera].data, rgb.data(), rgb.size());
            float phase = static_cast<float>(tick) / 250;
            for (float &value : observation.state_values())
                value = 0.1f * std::sin(phase += 1);
            const std::uint64_t before = observation.observed_ns = pi0rt::now_ns();
            if (client.submit(observation) != PI0RT_STATUS_OK)
                client.release(observation);
            submit.push_back(pi0rt::now_ns() - before);
        }
    }

    std::printf("chunks %zu, failed %zu, actions %zu, held or stopping %zu, missed ticks %zu, reconnects %u\n",
                latency.size(), failed, age.size(), held, missed, keeper.reconnects.load());
    print("chunk latency", latency);
    print("action age", age);
    print("submit", submit);
    return !latency.empty() && failed == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}

} // namespace

int main(int argc, char **argv)
try {
    return control(argc > 1 ? argv[1] : "", argc > 2 ? std::atof(argv[2]) : 5,
                   argc > 3 ? argv[3] : "pick up the red block", argc > 4 ? std::strtof(argv[4], nullptr) : 0);
} catch (const std::exception &error) {
    std::fprintf(stderr, "controller: %s\n", error.what());
    return EXIT_FAILURE;
}
