package main

import (
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/weir-gateway/weir/admin"
	"github.com/weir-gateway/weir/upstream"
	"github.com/weir-gateway/weir/upstream/pool"
)

// poolCmd is weir pool.
type poolCmd struct {
	Status  poolStatusCmd  `cmd:"" default:"withargs" help:"Show how upstreams and their keys do."`
	Reset   poolResetCmd   `cmd:"" help:"Forget what keys have failed with."`
	Disable poolDisableCmd `cmd:"" help:"Take a key out of use."`
	Enable  poolEnableCmd  `cmd:"" help:"Put a key into use again."`
}

type poolStatusCmd struct {
	askFlags
}

// Run prints a table, or JSON.
func (c *poolStatusCmd) Run(e *env) error {
	var answer admin.Pools
	raw, err := c.ask(e, http.MethodGet, "/pools", &answer)
	if err != nil {
		return err
	}
	if c.Output == "json" {
		_, err := e.stdout.Write(raw)
		return err
	}
	return printPools(e.stdout, answer, time.Now())
}

func printPools(w io.Writer, list admin.Pools, now time.Time) error {
	table := tabwriter.NewWriter(w, 0, 4, 2, ' ', 0)
	fmt.Fprintln(table, "UPSTREAM\tKEY\tENDS IN\tSTATE\tWHY\tBACK IN\tIN FLIGHT\tREQUESTS\tGOOD\tTOKENS\tLAST FAILURE")
	for _, p := range list.Pools {
		if len(p.Keys) == 0 {
			fmt.Fprintln(table, strings.Join([]string{p.Upstream, "-", "-", upstreamState(&p), "-", "-", "-", "-", "-", "-", "-"}, "\t"))
		}
		for _, k := range p.Keys {
			fmt.Fprintln(table, strings.Join(poolRow(p, &k, now), "\t"))
		}
	}
	if err := table.Flush(); err != nil {
		return err
	}
	for _, p := range list.Pools {
		if p.Stale != "" {
			fmt.Fprintf(w, "The newest key file of %s was not taken, the keys before are in force:\n%s\n", p.Upstream, p.Stale)
		}
	}
	return nil
}

// upstreamState is a word for how an upstream does.
func upstreamState(p *admin.Pool) string {
	switch p.Status {
	case upstream.StatusDown:
		return "down"
	case upstream.StatusNoKeys:
		return "no usable key"
	case upstream.StatusResting:
		return "resting"
	case upstream.StatusOK:
	}
	return "up"
}

// keyState is a word for what can be had of a key.
func keyState(p *admin.Pool, k *pool.KeyStatus) string {
	if k.State == pool.Healthy && p.Status == upstream.StatusDown {
		return "upstream down"
	}
	return k.State.String()
}

func poolRow(p admin.Pool, k *pool.KeyStatus, now time.Time) []string {
	state, why, back, last, good := keyState(&p, k), "-", "-", "-", "-"
	if k.State != pool.Healthy {
		why = strings.ReplaceAll(string(k.Why), "_", " ")
	}
	if until := k.Until.Sub(now); !k.Until.IsZero() && until > 0 {
		back = until.Round(100 * time.Millisecond).String()
	}
	if f := k.LastFailure; f != nil {
		last = strings.ReplaceAll(f.Class.String(), "_", " ")
		if f.Status > 0 {
			last += " (" + strconv.Itoa(f.Status) + ")"
		}
		last += ", " + now.Sub(f.At).Round(time.Second).String() + " ago"
	}
	if k.Ended() > 0 {
		good = strconv.FormatFloat(100*k.SuccessRate, 'f', 1, 64) + " %"
	}
	ends := "-"
	if k.Last4 != "" {
		ends = k.Last4
	}
	return []string{
		p.Upstream, k.Label, ends, state, why, back, strconv.Itoa(k.InFlight),
		strconv.FormatInt(k.Requests, 10), good, strconv.FormatInt(k.Tokens, 10), last,
	}
}

type poolResetCmd struct {
	askFlags
	Key      string `arg:"" optional:"" help:"Label or id of a key. Default: all keys."`
	Upstream string `placeholder:"NAME" help:"Only keys of this upstream."`
}

// Run resets, and says how much.
func (c *poolResetCmd) Run(e *env) error {
	return c.change(e, "reset", c.Upstream, c.Key, "%s had failed, and will be used again.\n")
}

// keyFlags name one key.
type keyFlags struct {
	askFlags
	Key      string `arg:"" help:"Label or id of a key."`
	Upstream string `placeholder:"NAME" help:"Only the key of this upstream."`
}

type poolDisableCmd struct{ keyFlags }

// Run takes a key out of use.
func (c *poolDisableCmd) Run(e *env) error {
	return c.change(e, "disable", c.Upstream, c.Key, "%s will not be used any more.\n")
}

type poolEnableCmd struct{ keyFlags }

// Run puts a key into use.
func (c *poolEnableCmd) Run(e *env) error {
	return c.change(e, "enable", c.Upstream, c.Key, "%s will be used again, unless it has failed.\n")
}

func (f askFlags) change(e *env, verb, name, key, says string) error {
	var answer admin.Changed
	query := url.Values{"upstream": {name}, "key": {key}}
	raw, err := f.ask(e, http.MethodPost, "/pools/"+verb+"?"+query.Encode(), &answer)
	if err != nil {
		return err
	}
	if f.Output == "json" {
		_, err := e.stdout.Write(raw)
		return err
	}
	keys := "1 key"
	if answer.Changed != 1 {
		keys = strconv.Itoa(answer.Changed) + " keys"
	}
	fmt.Fprintf(e.stdout, says, keys)
	return nil
}
