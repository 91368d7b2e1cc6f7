package redisstore

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"time"

	"github.com/weir-gateway/weir/ratelimit"
)

// Admit decides all charges or none; see ratelimit.Store. Once it is sent it
// waits for the answer, even if ctx ends meanwhile: an exchange that was
// admitted must be known to whoever settles it.
func (s *Store) Admit(
	ctx context.Context, id ratelimit.ID, charges []ratelimit.Charge, opts ratelimit.AdmitOptions,
) (ratelimit.Decision, error) {
	d, err := s.admit(ctx, id, charges, opts)
	if err != nil {
		return ratelimit.Decision{Refused: -1}, fmt.Errorf("admit %s: %w", id, err)
	}
	return d, nil
}

func (s *Store) admit(
	ctx context.Context, id ratelimit.ID, charges []ratelimit.Charge, opts ratelimit.AdmitOptions,
) (d ratelimit.Decision, err error) {
	if err := ratelimit.CheckCharges(charges); err != nil {
		return d, err
	}
	until := time.Now().Add(s.timeout)
	if err := s.meet(ctx); err != nil {
		return d, err
	}
	reply, err := s.ask(ctx, id, charges, opts, until)
	if err == nil && reply[0] == codeTooLate && s.virtual == nil && time.Now().Before(until) && inTime(ctx, opts) {
		// The server's clock is not where we took it to be; now we know better.
		reply, err = s.ask(ctx, id, charges, opts, until)
	}
	if err != nil {
		return d, err
	}
	return decision(reply, charges, opts.States)
}

// meet asks the server for its time if nothing is known of it yet.
func (s *Store) meet(ctx context.Context) error {
	if _, known := s.offset.server(time.Now()); known {
		return ctx.Err()
	}
	err := s.Ping(ctx)
	if errors.Is(err, ratelimit.ErrUnknown) {
		// What is unknown is the time; nothing was asked to be admitted.
		return fmt.Errorf("%w: %s", ratelimit.ErrUnavailable, err) //nolint:errorlint // it must not be taken for ErrUnknown too
	}
	return err
}

// ask sends the admit.
func (s *Store) ask(
	ctx context.Context, id ratelimit.ID, charges []ratelimit.Charge, opts ratelimit.AdmitOptions, until time.Time,
) ([]int64, error) {
	text := id.String()
	p := plan{
		keys: append(make([]string, 0, 2+len(charges)), queuePrefix+text, timeKey),
		args: append(make([]any, 0, 4+3*len(charges)), s.now(), s.notAfter(ctx, opts, until), boolText(opts.Force), text),
	}
	if err := p.add(charges, s.clock()); err != nil {
		return nil, err
	}
	return s.runUntil(ctx, s.scripts.admit, p.keys, p.args, until)
}

// notAfter is the server's time, in µs, after which nobody waits for this admit
// any more.
func (s *Store) notAfter(ctx context.Context, opts ratelimit.AdmitOptions, until time.Time) string {
	if s.virtual != nil {
		if opts.NotAfter.IsZero() {
			return ""
		}
		return strconv.FormatInt(opts.NotAfter.UnixMicro(), 10)
	}
	server, _ := s.offset.server(earliest(ctx, opts, until))
	return strconv.FormatInt(server.Microseconds(), 10)
}

// earliest is when the first of all deadlines ends.
func earliest(ctx context.Context, opts ratelimit.AdmitOptions, until time.Time) time.Time {
	if !opts.NotAfter.IsZero() && opts.NotAfter.Before(until) {
		until = opts.NotAfter
	}
	if deadline, ok := ctx.Deadline(); ok && deadline.Before(until) {
		until = deadline
	}
	return until
}

func inTime(ctx context.Context, opts ratelimit.AdmitOptions) bool {
	now := time.Now()
	return earliest(ctx, opts, now).Equal(now)
}

// decision reads the reply of admit.lua.
func decision(reply []int64, charges []ratelimit.Charge, scratch []ratelimit.State) (ratelimit.Decision, error) {
	switch reply[0] {
	case codeTooLate:
		return ratelimit.Decision{}, ratelimit.ErrTooLate
	case codeApart:
		return ratelimit.Decision{}, errApart
	}
	d := ratelimit.Decision{
		Admitted:   reply[0] == codeYes,
		Refused:    int(reply[2]),
		RetryAfter: time.Duration(reply[3]) * time.Microsecond,
		TooLarge:   reply[0] == codeTooLarge,
		States:     states(scratch[:0], reply[4:], charges),
	}
	for _, i := range reply[4+2*len(charges):] {
		d.Shadowed = append(d.Shadowed, int(i))
	}
	slices.Sort(d.Shadowed)
	return d, nil
}

func boolText(b bool) string {
	if b {
		return "1"
	}
	return "0"
}
