package main

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
	"strings"
	"text/tabwriter"

	"connectrpc.com/connect"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/weir-gateway/weir/admin"
	adminv1 "github.com/weir-gateway/weir/proto/weir/admin/v1"
	"github.com/weir-gateway/weir/protoprint"
)

type keysListCmd struct {
	clientKeyFlags
	User string `help:"Only keys of this user."`
	Team string `help:"Only keys of this team."`
}

// Run prints a table, or JSON.
func (c *keysListCmd) Run(e *env) error {
	s, err := c.service(e, false)
	if err != nil {
		return err
	}
	resp, err := s.List(e.ctx, connect.NewRequest(&adminv1.ListKeysRequest{User: c.User, Team: c.Team}))
	if err != nil {
		return c.answered(err)
	}
	if c.Output == "json" {
		return printMessage(e.stdout, resp.Msg)
	}
	table := tabwriter.NewWriter(e.stdout, 0, 4, 2, ' ', 0)
	fmt.Fprintln(table, "ID\tSTATE\tLABEL\tUSER\tTEAM\tPLAN\tEXPIRES\tMODELS")
	for _, k := range resp.Msg.GetKeys() {
		fmt.Fprintln(table, strings.Join([]string{
			k.GetId(), admin.KeyStateWord(k.GetState()), cmp.Or(k.GetLabel(), "-"), cmp.Or(k.GetUser(), "-"), cmp.Or(k.GetTeam(), "-"), cmp.Or(k.GetPlan(), "-"),
			timeText(k.GetExpires(), "never"), cmp.Or(strings.Join(k.GetModels(), ", "), "all"),
		}, "\t"))
	}
	return table.Flush()
}

// timeText is a time as people read it.
func timeText(t *timestamppb.Timestamp, absent string) string {
	if t == nil {
		return absent
	}
	return t.AsTime().Format("2006-01-02 15:04 UTC")
}

type keysShowCmd struct {
	clientKeyFlags
	ID string `arg:"" help:"Id of the key."`
}

// Run prints one key.
func (c *keysShowCmd) Run(e *env) error {
	s, err := c.service(e, false)
	if err != nil {
		return err
	}
	resp, err := s.Show(e.ctx, connect.NewRequest(&adminv1.ShowKeyRequest{Id: c.ID}))
	if err != nil {
		return c.answered(err)
	}
	return c.shown(e, resp.Msg, resp.Msg.GetKey())
}

// shown prints a key: its members that are set, a line each.
func (f clientKeyFlags) shown(e *env, m proto.Message, k *adminv1.Key) error {
	if f.Output == "json" {
		return printMessage(e.stdout, m)
	}
	table := tabwriter.NewWriter(e.stdout, 0, 4, 2, ' ', 0)
	line := func(name, value string) {
		if value != "" {
			fmt.Fprintf(table, "%s\t%s\n", name, value)
		}
	}
	line("id", k.GetId())
	line("state", admin.KeyStateWord(k.GetState()))
	line("label", k.GetLabel())
	line("user", k.GetUser())
	line("team", k.GetTeam())
	line("plan", k.GetPlan())
	line("models", cmp.Or(strings.Join(k.GetModels(), ", "), "all"))
	line("endpoints", cmp.Or(strings.Join(k.GetEndpoints(), ", "), "all"))
	line("cidrs", cmp.Or(strings.Join(k.GetCidrs(), ", "), "every address"))
	line("expires", timeText(k.GetExpires(), "never"))
	line("created", timeText(k.GetCreated(), ""))
	line("revoked", timeText(k.GetRevoked(), ""))
	for _, until := range k.GetPreviousUntil() {
		line("old secret until", timeText(until, ""))
	}
	for _, l := range k.GetLimits() {
		text, err := protoprint.JSON(l, false)
		if err != nil {
			return fmt.Errorf("print a limit: %w", err)
		}
		line("limit", string(text))
	}
	for _, name := range slices.Sorted(maps.Keys(k.GetMetadata())) {
		line("metadata "+name, k.GetMetadata()[name])
	}
	line("file", k.GetFile())
	return table.Flush()
}
