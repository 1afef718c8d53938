/*
 * pi0rt.h for C++17: handles that close themselves, errors as exceptions where they may happen and
 * as statuses where a control loop runs. Header only; link with -lpi0rt.
 *
 *   pi0rt::Client client("/run/pi0rt/pi0rt.sock");
 *   pi0rt::Observation observation;
 *   observation.prompt_id = client.set_prompt("pick up the red block");
 *   if (client.acquire(observation) == PI0RT_STATUS_OK) {
 *       ... write observation.state and observation.frames[i].data, describe the frames ...
 *       client.submit(observation);
 *   }
 *
 * What is noexcept is as real-time safe as the function of the C ABI that it calls.
 *
 * Licence: Apache-2.0.
 */
#ifndef PI0RT_HPP
#define PI0RT_HPP

#include <cstddef>
#include <cstdint>
#include <stdexcept>
#include <string>
#include <utility>
#include <vector>

#include "pi0rt.h"

namespace pi0rt {

/** Time, nanoseconds of CLOCK_MONOTONIC. */
inline std::uint64_t now_ns() noexcept
{
    return pi0rt_now_ns();
}

/** What the last error of this thread was. */
inline std::string last_error()
{
    std::string words(pi0rt_last_error(nullptr, 0), '\0');
    pi0rt_last_error(words.data(), words.size() + 1);
    return words;
}

/** A call that failed. */
class Error : public std::runtime_error {
public:
    explicit Error(pi0rt_status status)
        : std::runtime_error(std::string(pi0rt_status_string(status)) + ": " + last_error()), status_(status)
    {
    }

    pi0rt_status status() const noexcept
    {
        return status_;
    }

private:
    pi0rt_status status_;
};

namespace detail {

inline void check(pi0rt_status status)
{
    if (status != PI0RT_STATUS_OK)
        throw Error(status);
}

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
using Chunk = detail::Sized<pi0rt_chunk>;
using ActionInfo = detail::Sized<pi0rt_action_info>;

/** An observation slot, once acquired; to be kept from tick to tick. */
struct Observation : detail::Sized<pi0rt_observation> {
    /** The state as something that std::span and range-for take. */
    struct State {
        float *begin_;
        std::size_t size_;

        float *begin() const noexcept { return begin_; }
        float *end() const noexcept { return begin_ + size_; }
        float *data() const noexcept { return begin_; }
        std::size_t size() const noexcept { return size_; }
        float &operator[](std::size_t i) const noexcept { return begin_[i]; }
    };

    State state_values() const noexcept
    {
        return {state, state_dim};
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

/** A session with the daemon. Moves, does not copy; used by one thread at a time. */
class Client {
public:
    /** Opens a session. Throws Error. */
    explicit Client(const pi0rt_client_options &options = Options())
    {
        detail::check(pi0rt_client_open(&options, &handle_));
        PolicyInfo info;
        const pi0rt_status status = pi0rt_client_describe(handle_, &info);
        if (status != PI0RT_STATUS_OK) {
            pi0rt_client_close(handle_);
            throw Error(status);
        }
        info_ = info;
    }

    /** Opens a session on a socket. Throws Error. */
    explicit Client(const std::string &socket_path) : Client(on(socket_path)) {}

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

    /** The cameras' names, in the order of an observation's frames. */
    std::vector<std::string> cameras() const
    {
        return {info_.camera_names, info_.camera_names + info_.cameras};
    }

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

    /** Begins a new episode. Waits for the daemon. Throws Error. */
    void reset()
    {
        detail::check(pi0rt_client_reset(handle_));
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

    /** The action for a moment, into anything with data() and size(): std::array, std::vector, std::span. */
    template <typename Values>
    pi0rt_status action_at(std::uint64_t t_ns, Values &&action, ActionInfo *about = nullptr) noexcept
    {
        return pi0rt_action_at(handle_, t_ns, action.data(), action.size(), about);
    }

    /** Waits for the completion of a ticket; 0: of any. May sleep. */
    pi0rt_status wait(std::uint64_t ticket, std::uint64_t timeout_ns, Completion &completion) noexcept
    {
        return pi0rt_wait(handle_, ticket, timeout_ns, &completion);
    }

private:
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
