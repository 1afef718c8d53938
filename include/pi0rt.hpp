/*
 * pi0rt.h for C++17 and later: sessions that close themselves, errors as exceptions where there is
 * time for them and as statuses where a control loop runs. Header only; link with -lpi0rt.
 *
 *   pi0rt::Client client("/run/pi0rt/pi0rt.sock");
 *   pi0rt::Observation observation;
 *   observation.prompt_id = client.set_prompt("pick up the red block");
 *   if (client.acquire(observation) == PI0RT_STATUS_OK) {
 *       ... write observation.state_values() and observation.frame(i), describe the frames ...
 *       client.submit(observation);
 *   }
 *
 * A noexcept function is as real-time safe as the function of the C ABI that it calls, and neither
 * throws nor allocates. Compiled without exceptions, what would throw is not there: open sessions
 * with Client::open, and use get() with the C ABI.
 *
 * Licence: Apache-2.0.
 */
#ifndef PI0RT_HPP
#define PI0RT_HPP

#if __cplusplus < 201703L
#error "pi0rt.hpp needs C++17 or later (-std=c++17); pi0rt.h can be used from C++11 on"
#endif

#include <cstddef>
#include <cstdint>
#include <stdexcept>
#include <string>
#include <utility>
#include <vector>
#if __cplusplus >= 202002L
#include <span>
#endif

#include "pi0rt.h"

namespace pi0rt {

#if __cplusplus >= 202002L
template <typename T> using Span = std::span<T>;
#else
/** Values that lie one after the other: what there is of std::span here. */
template <typename T> class Span {
public:
    constexpr Span() noexcept = default;
    constexpr Span(T *data, std::size_t size) noexcept : data_(data), size_(size) {}
    /** From anything with data() and size(): std::array, std::vector. */
    template <typename Values, typename = decltype(static_cast<T *>(std::declval<Values &>().data()))>
    constexpr Span(Values &&values) noexcept : data_(values.data()), size_(values.size())
    {
    }

    constexpr T *begin() const noexcept { return data_; }
    constexpr T *end() const noexcept { return data_ + size_; }
    constexpr T *data() const noexcept { return data_; }
    constexpr std::size_t size() const noexcept { return size_; }
    constexpr bool empty() const noexcept { return size_ == 0; }
    constexpr T &operator[](std::size_t i) const noexcept { return data_[i]; }

private:
    T *data_ = nullptr;
    std::size_t size_ = 0;
};
#endif

/** Time, nanoseconds of CLOCK_MONOTONIC. */
inline std::uint64_t now_ns() noexcept
{
    return pi0rt_now_ns();
}

/** Description of the last error of this thread. */
inline std::string last_error()
{
    std::string words(pi0rt_last_error(nullptr, 0), '\0');
    pi0rt_last_error(words.data(), words.size() + 1);
    return words;
}

#if defined(__cpp_exceptions)

/** A call that failed. */
class Error : public std::runtime_error {
public:
    explicit Error(pi0rt_status status)
        : std::runtime_error(std::string(pi0rt_status_string(status)) + ": " + last_error()), status_(status)
    {
    }

    Error(pi0rt_status status, const std::string &words) : std::runtime_error(words), status_(status) {}

    pi0rt_status status() const noexcept
    {
        return status_;
    }

private:
    pi0rt_status status_;
};

#endif

namespace detail {

#if defined(__cpp_exceptions)
inline void check(pi0rt_status status)
{
    if (status != PI0RT_STATUS_OK)
        throw Error(status);
}
#endif

/** A struct of the C ABI, zero but for its size. */
template <typename Struct> struct Sized : Struct {
    Sized() noexcept : Struct{}
    {
        this->struct_size = static_cast<std::uint32_t>(sizeof(Struct));
    }
};

} // namespace detail

using Options = detail::Sized<pi0rt_client_options>;
using PolicyInfo = detail::Sized<pi0rt_policy_info>;
using Completion = detail::Sized<pi0rt_completion>;
using ActionInfo = detail::Sized<pi0rt_action_info>;
using Statistics = detail::Sized<pi0rt_statistics>;
using Dimension = detail::Sized<pi0rt_dimension>;
using Prompt = detail::Sized<pi0rt_prompt>;

/** A chunk of actions. Its values are valid until the next call with its client. */
struct Chunk : detail::Sized<pi0rt_chunk> {
    /** All values, row after row. */
    Span<const float> values() const noexcept
    {
        return {actions, actions ? std::size_t(horizon) * action_dim : 0};
    }

    /** One action; empty for a row that isn't there. */
    Span<const float> row(std::size_t i) const noexcept
    {
        return actions && i < horizon ? Span<const float>(actions + i * action_dim, action_dim) : Span<const float>();
    }
};

/** An observation slot, once acquired; to be kept from tick to tick. */
struct Observation : detail::Sized<pi0rt_observation> {
    /** Where the state goes. */
    Span<float> state_values() const noexcept
    {
        return {state, state_dim};
    }

    /** Where a camera's frame goes; empty for a camera that isn't there. */
    Span<std::uint8_t> frame(std::size_t camera) const noexcept
    {
        if (camera >= PI0RT_MAX_CAMERAS || !frames[camera].data)
            return {};
        return {frames[camera].data, frames[camera].capacity};
    }

    /** Says what was written to a camera's frame. stride 0: rows without gaps. */
    void describe(std::size_t camera, std::uint32_t width, std::uint32_t height, pi0rt_format format,
                  std::uint32_t stride = 0) noexcept
    {
        if (camera >= PI0RT_MAX_CAMERAS)
            return;
        frames[camera].width = width;
        frames[camera].height = height;
        frames[camera].stride = stride;
        frames[camera].format = static_cast<std::uint32_t>(format);
    }
};

/** A session with the daemon. Moves, does not copy; one thread at a time in calls of each class, see pi0rt.h. */
class Client {
public:
    /** No session yet: every call with it is answered with INVALID_ARGUMENT. */
    Client() noexcept = default;

    /** Opens a session in place of the one that client may hold. */
    static pi0rt_status open(const pi0rt_client_options &options, Client &client) noexcept
    {
        Client opened;
        pi0rt_status status = pi0rt_client_open(&options, &opened.handle_);
        if (status == PI0RT_STATUS_OK)
            status = pi0rt_client_describe(opened.handle_, &opened.info_);
        if (status == PI0RT_STATUS_OK)
            client = std::move(opened);
        return status;
    }

#if defined(__cpp_exceptions)
    /** Opens a session. Throws Error, also for a library of another ABI. */
    explicit Client(const pi0rt_client_options &options)
    {
        if (pi0rt_version() != PI0RT_ABI_VERSION)
            throw Error(PI0RT_STATUS_VERSION, "compiled for ABI " + std::to_string(PI0RT_ABI_VERSION) +
                                                  ", the library has " + std::to_string(pi0rt_version()));
        detail::check(open(options, *this));
    }

    /** Opens a session on a socket. Throws Error. */
    explicit Client(const std::string &socket_path) : Client(on(socket_path)) {}
#endif

    Client(const Client &) = delete;
    Client &operator=(const Client &) = delete;

    Client(Client &&other) noexcept
        : handle_(std::exchange(other.handle_, nullptr)), info_(other.info_)
    {
    }

    Client &operator=(Client &&other) noexcept
    {
        if (this != &other) {
            pi0rt_client_close(handle_);
            handle_ = std::exchange(other.handle_, nullptr);
            info_ = other.info_;
        }
        return *this;
    }

    ~Client()
    {
        pi0rt_client_close(handle_);
    }

    /** Closes the session before its time. */
    pi0rt_status close() noexcept
    {
        return pi0rt_client_close(std::exchange(handle_, nullptr));
    }

    /** True if there is a session. */
    explicit operator bool() const noexcept
    {
        return handle_ != nullptr;
    }

    /** The handle, for functions of the C ABI. */
    pi0rt_client *get() const noexcept
    {
        return handle_;
    }

    /** The policy that is served, and the session's sizes. */
    const PolicyInfo &info() const noexcept
    {
        return info_;
    }

    /** Meaning of one value of the state or of an action. */
    pi0rt_status dimension(pi0rt_vector which, std::uint32_t index, Dimension &dimension) const noexcept
    {
        return pi0rt_client_dimension(handle_, static_cast<std::uint32_t>(which), index, &dimension);
    }

    /** Meaning of each value of the state. */
    std::vector<Dimension> state() const
    {
        return dimensions(PI0RT_VECTOR_STATE, info_.state_dim);
    }

    /** Meaning of each value of an action. */
    std::vector<Dimension> action() const
    {
        return dimensions(PI0RT_VECTOR_ACTION, info_.action_dim);
    }

    /** The cameras' names, in the order of an observation's frames. */
    std::vector<std::string> cameras() const
    {
        return {info_.camera_names, info_.camera_names + info_.cameras};
    }

    /** State of an instruction; 0: of the one set last. */
    pi0rt_status prompt(std::uint32_t prompt_id, Prompt &prompt) const noexcept
    {
        return pi0rt_client_prompt(handle_, prompt_id, &prompt);
    }

#if defined(__cpp_exceptions)
    /** A camera's place among an observation's frames. Throws Error. */
    std::size_t camera(const std::string &name) const
    {
        std::uint32_t index = 0;
        detail::check(pi0rt_client_camera(handle_, name.c_str(), &index));
        return index;
    }

    /** Registers an instruction. Waits for the daemon. Throws Error. */
    std::uint32_t set_prompt(const std::string &text)
    {
        std::uint32_t id = 0;
        detail::check(pi0rt_client_set_prompt(handle_, text.c_str(), &id));
        return id;
    }

    /** As set_prompt, and nothing computed for earlier instructions is played any more. Throws Error. */
    std::uint32_t set_prompt_flush(const std::string &text)
    {
        std::uint32_t id = 0;
        detail::check(pi0rt_client_set_prompt_flush(handle_, text.c_str(), &id));
        return id;
    }

    /** Opens the session anew with a daemon that was started again. Throws Error. */
    void reconnect()
    {
        detail::check(pi0rt_client_reconnect(handle_));
        detail::check(pi0rt_client_describe(handle_, &info_));
    }

    /** Begins a new episode. Waits for the daemon. Throws Error. */
    void reset()
    {
        detail::check(pi0rt_client_reset(handle_));
    }
#endif

    /** As reconnect(), without exceptions: to be called again until it is OK. info() stays as it was. */
    pi0rt_status try_reconnect() noexcept
    {
        return pi0rt_client_reconnect(handle_);
    }

    /** A descriptor for poll and epoll; -1 for a client that was moved from. */
    int fd() noexcept
    {
        return pi0rt_client_fd(handle_);
    }

    /** Takes a free observation slot. */
    pi0rt_status acquire(Observation &observation) noexcept
    {
        return pi0rt_observation_acquire(handle_, &observation);
    }

    /** Gives a slot back without submitting it. */
    pi0rt_status release(const Observation &observation) noexcept
    {
        return pi0rt_observation_release(handle_, &observation);
    }

    /** Hands an observation over to the daemon. */
    pi0rt_status submit(const Observation &observation, std::uint64_t *ticket = nullptr) noexcept
    {
        return pi0rt_submit(handle_, &observation, ticket);
    }

    /** Takes one completion. */
    pi0rt_status poll(Completion &completion) noexcept
    {
        return pi0rt_poll(handle_, &completion);
    }

    /** The latest chunk. */
    pi0rt_status chunk_latest(Chunk &chunk) noexcept
    {
        return pi0rt_chunk_latest(handle_, &chunk);
    }

    /** The action for a moment, info().action_dim values. */
    pi0rt_status action_at(std::uint64_t t_ns, float *action, std::size_t count, ActionInfo *about = nullptr) noexcept
    {
        return pi0rt_action_at(handle_, t_ns, action, count, about);
    }

    /** The action for a moment, into a std::array, std::vector or std::span of action_dim values. */
    pi0rt_status action_at(std::uint64_t t_ns, Span<float> action, ActionInfo *about = nullptr) noexcept
    {
        return pi0rt_action_at(handle_, t_ns, action.data(), action.size(), about);
    }

    /** The command for a moment and its change per second, action_dim values each. */
    pi0rt_status motion_at(std::uint64_t t_ns, Span<float> action, Span<float> velocity,
                           ActionInfo *about = nullptr) noexcept
    {
        if (velocity.size() != action.size())
            return PI0RT_STATUS_INVALID_ARGUMENT;
        return pi0rt_motion_at(handle_, t_ns, action.data(), velocity.data(), action.size(), about);
    }

    /** Starts from the robot's present command, action_dim values. */
    pi0rt_status start_from(Span<const float> command) noexcept
    {
        return pi0rt_start_from(handle_, command.data(), command.size());
    }

    /** Counters of the daemon for this session. */
    pi0rt_status statistics(Statistics &statistics) const noexcept
    {
        return pi0rt_client_statistics(handle_, &statistics);
    }

    /** Waits for the completion of a ticket; 0: of any. May sleep. */
    pi0rt_status wait(std::uint64_t ticket, std::uint64_t timeout_ns, Completion &completion) noexcept
    {
        return pi0rt_wait(handle_, ticket, timeout_ns, &completion);
    }

private:
    std::vector<Dimension> dimensions(pi0rt_vector which, std::uint32_t count) const
    {
        std::vector<Dimension> dimensions(count);
        for (std::uint32_t i = 0; i < count; i++)
            dimension(which, i, dimensions[i]);
        return dimensions;
    }

    static Options on(const std::string &socket_path) noexcept
    {
        Options options;
        options.socket_path = socket_path.c_str();
        return options;
    }

    pi0rt_client *handle_ = nullptr;
    PolicyInfo info_;
};

} // namespace pi0rt

#endif /* PI0RT_HPP */
