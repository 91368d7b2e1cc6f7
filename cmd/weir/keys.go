package main

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"net/http"
	"net/url"
	"os"
	"slices"
	"strings"
	"text/tabwriter"
	"time"

	"connectrpc.com/connect"
	"github.com/rs/zerolog"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/durationpb"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/weir-gateway/weir/admin"
	"github.com/weir-gateway/weir/config"
	"github.com/weir-gateway/weir/keyring"
	"github.com/weir-gateway/weir/keyring/keyfile"
	adminv1 "github.com/weir-gateway/weir/proto/weir/admin/v1"
	"github.com/weir-gateway/weir/proto/weir/admin/v1/adminv1connect"
	"github.com/weir-gateway/weir/protoprint"
)

// keysCmd is weir keys.
type keysCmd struct {
	New    keysNewCmd    `cmd:"" help:"Make a key, and print its secret, this once."`
	List   keysListCmd   `cmd:"" help:"List all keys."`
	Show   keysShowCmd   `cmd:"" help:"Show one key."`
	Update keysUpdateCmd `cmd:"" help:"Enable or disable a key, or change what it may do."`
	Revoke keysRevokeCmd `cmd:"" help:"End a key for good. A running weir refuses it within a second."`
	Rotate keysRotateCmd `cmd:"" help:"Give a key another secret, and print it, this once."`
	Import keysImportCmd `cmd:"" help:"Take keys over from the JSON of an older gateway, with hashes in the place of secrets."`
	Reload keysReloadCmd `cmd:"" help:"Have the running weir read the key files now."`
}

// Help is shown with weir keys --help.
func (keysCmd) Help() string {
	return `Changes are written to the key files of weir.yaml, which a running weir follows: each is a complete new file in the place of the old one, with its comments, order and mode. With --admin they are made by the weir that answers there.

Examples:
  weir keys new --user ann --plan free --expires 90d
  weir keys list -o json
  weir keys rotate 7QK2MZP4 --grace 24h
  weir keys revoke 7QK2MZP4
  weir keys list --admin http://10.0.0.5:9090 --token-file admin.token

Exit status: 0 done, 1 refused or failed, 2 wrong usage.`
}

// clientKeyFlags say whose keys they are, and how to print.
type clientKeyFlags struct {
	configFlags
	adminFlags
	File   string `placeholder:"FILE" help:"The key file. Default: those of weir.yaml."`
	Output string `short:"o" default:"text" enum:"text,json" help:"text or json (${default})."`
}

// adminFlags say which weir to ask over the network.
type adminFlags struct {
	Admin     string `placeholder:"URL" help:"Ask the weir whose admin API is there, such as http://127.0.0.1:9090."`
	TokenFile string `placeholder:"FILE" help:"File of its token."`
}

// client is for requests that show the token.
func (f adminFlags) client() (*http.Client, error) {
	if u, err := url.Parse(f.Admin); err != nil || u.Scheme != "http" && u.Scheme != "https" || u.Host == "" {
		return nil, usageError{fmt.Errorf("--admin %s: want a URL such as http://127.0.0.1:9090", f.Admin)}
	}
	if f.TokenFile == "" {
		return nil, usageError{errors.New("--admin needs --token-file")}
	}
	text, err := os.ReadFile(f.TokenFile)
	if err != nil {
		return nil, fmt.Errorf("--token-file: %w", err)
	}
	return &http.Client{
		Timeout: 30 * time.Second, Transport: showing{strings.TrimSpace(string(text))},
		// The token is for that weir alone.
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}, nil
}

// showing shows a token with each request.
type showing struct{ token string }

// RoundTrip sends a request.
func (s showing) RoundTrip(r *http.Request) (*http.Response, error) {
	r = r.Clone(r.Context())
	r.Header.Set("Authorization", "Bearer "+s.token)
	return http.DefaultTransport.RoundTrip(r)
}

// service is who manages the keys: a running weir, or this process over the files.
// A file that is to be made need not be there yet.
func (f clientKeyFlags) service(e *env, toMake bool) (adminv1connect.KeysServiceClient, error) {
	if f.Admin != "" {
		client, err := f.client()
		if err != nil {
			return nil, err
		}
		return adminv1connect.NewKeysServiceClient(client, strings.TrimRight(f.Admin, "/"), connect.WithProtoJSON()), nil
	}
	files, plans, err := f.site(e)
	if err != nil {
		return nil, err
	}
	k := keyring.Unread(files, zerolog.New(e.stderr).Level(zerolog.Disabled))
	if err := k.Reload(false); err != nil && (!toMake || !empty(files)) {
		return nil, err
	}
	return admin.NewKeys(k, plans, zerolog.Nop()), nil
}

// empty tells whether a key file is yet to be written.
func empty(files config.Keys) bool {
	for _, f := range files.Files {
		if list, err := keyfile.Read(f); err == nil && len(list) == 0 {
			return true
		}
	}
	return false
}

// site is where the keys are, and which plans there are.
func (f clientKeyFlags) site(e *env) (files config.Keys, plans func() []string, err error) {
	if f.File == "" || f.Config != "" {
		cfg, err := f.partly(e, "keys", "plans")
		if err != nil {
			return files, nil, err
		}
		if cfg != nil {
			files = cfg.Keys
			plans = func() []string { return slices.Sorted(maps.Keys(cfg.Plans)) }
		}
	}
	if f.File != "" {
		files.Files = []string{f.File}
	}
	if len(files.Files) == 0 {
		return files, nil, usageError{errors.New("there is no key file: name one with --file, or a weir.yaml that has keys: {files: [keys.yaml]} with -c")}
	}
	return files, plans, nil
}

// keyOptions are what a key may do.
type keyOptions struct {
	Label    string            `placeholder:"TEXT" help:"What people call the key."`
	User     string            `help:"Whose key it is."`
	Team     string            `help:"The user's team."`
	Plan     string            `help:"A plan of weir.yaml."`
	Models   []string          `placeholder:"NAME" help:"Models it may use, or patterns such as qwen/*, with commas between. Default: all."`
	Endpoint []string          `name:"endpoints" placeholder:"PATH" help:"Paths it may call, such as /v1/chat/completions. Default: all."`
	CIDRs    []string          `name:"cidrs" placeholder:"RANGE" help:"Addresses it may be used from, such as 10.0.0.0/8. Default: every one."`
	Expires  string            `placeholder:"TIME" help:"When it stops working: 2027-01-31, 2027-01-31T12:00:00Z, or in how long: 90d, 12h. Default: never."`
	Metadata map[string]string `placeholder:"NAME=VALUE" help:"Whatever else is to be known of it. May be given several times."`
}

func (o *keyOptions) message(now time.Time) (*adminv1.KeyOptions, error) {
	expires, err := parseExpiry(o.Expires, now)
	if err == nil && expires != nil && !expires.AsTime().After(now) {
		err = fmt.Errorf("%s is over, and the key would never work", o.Expires)
	}
	if err != nil {
		return nil, usageError{fmt.Errorf("--expires: %w", err)}
	}
	return &adminv1.KeyOptions{
		Label: o.Label, User: o.User, Team: o.Team, Plan: o.Plan, Models: o.Models, Endpoints: o.Endpoint, Cidrs: o.CIDRs,
		Expires: expires, Metadata: o.Metadata,
	}, nil
}

// parseExpiry reads a point in time, or how long after now it is. "" is never.
func parseExpiry(text string, now time.Time) (*timestamppb.Timestamp, error) {
	if text == "" {
		return nil, nil
	}
	for _, layout := range []string{time.DateOnly, time.RFC3339} {
		if t, err := time.Parse(layout, text); err == nil {
			return timestamppb.New(t), nil
		}
	}
	d, err := parseSpan(text)
	if err != nil || d <= 0 {
		return nil, fmt.Errorf("%q is no time: want 2027-01-31, 2027-01-31T12:00:00Z, or in how long, such as 90d or 12h", text)
	}
	return timestamppb.New(now.Add(d)), nil
}

// parseSpan reads a duration, which may be in days.
func parseSpan(text string) (time.Duration, error) {
	if days, ok := strings.CutSuffix(text, "d"); ok {
		var n int
		if _, err := fmt.Sscanf(days+" ", "%d ", &n); err == nil && n >= 0 && n < 100_000 {
			return time.Duration(n) * 24 * time.Hour, nil
		}
	}
	return time.ParseDuration(text)
}

type keysNewCmd struct {
	clientKeyFlags
	keyOptions
	Print bool `help:"Write to no file: print the line for the key file, and the secret to stderr."`
}

// Run makes a key. Its secret goes nowhere but to stdout.
func (c *keysNewCmd) Run(e *env) error {
	options, err := c.message(time.Now())
	if err != nil {
		return err
	}
	if c.Print {
		c.warn(e)
		return c.print(e, options)
	}
	s, err := c.service(e, true)
	if err != nil {
		return err
	}
	req := &adminv1.CreateKeyRequest{Options: options}
	if c.Admin != "" {
		req.File = c.File
	}
	resp, err := s.Create(e.ctx, connect.NewRequest(req))
	if err != nil {
		return c.answered(err)
	}
	c.warn(e)
	k := resp.Msg.GetKey()
	return c.secret(e, resp.Msg, fmt.Sprintf("Key %s is in %s. Its secret, shown this once:", k.GetId(), cmp.Or(k.GetFile(), "the key file")))
}

// warn tells of models that the configuration of this machine does not have.
func (c *keysNewCmd) warn(e *env) {
	if c.Admin != "" {
		return // that weir may have others
	}
	cfg, err := c.partly(e, "upstreams", "models")
	if cfg == nil || err != nil {
		return
	}
	for _, pattern := range stray(cfg, c.Models) {
		fmt.Fprintf(e.stderr, "warning: --models: no model of %s is called %s\n", cmp.Or(cfg.File, "the environment"), pattern)
	}
}

// newSecret is an answer that tells a secret.
type newSecret interface {
	proto.Message
	GetSecret() string
	GetPending() string
}

// secret prints a secret alone to stdout, for scripts to take, and says what it is.
func (f clientKeyFlags) secret(e *env, m newSecret, says string) error {
	if f.Output == "json" {
		if err := printMessage(e.stdout, m); err != nil {
			return err
		}
	} else {
		fmt.Fprintln(e.stderr, says)
		if _, err := fmt.Fprintln(e.stdout, m.GetSecret()); err != nil {
			return err
		}
	}
	if m.GetPending() != "" {
		return errors.New(m.GetPending())
	}
	return nil
}

// print is for key files that something else writes.
func (c *keysNewCmd) print(e *env, o *adminv1.KeyOptions) error {
	var pepper []byte
	if c.file(e) != "" {
		files, _, err := c.site(e)
		if err != nil {
			return err
		}
		if pepper, err = keyring.Pepper(files.PepperFile); err != nil {
			return err
		}
	}
	secret, id := keyring.NewSecret()
	k := admin.KeyOf(o)
	k.Id, k.Hash = id, keyring.PepperedHash(pepper, secret)
	fmt.Fprintf(e.stderr, "The secret, shown this once:\n\n  %s\n\nFor the list `keys:` of the key file (the secret is not in it):\n\n", secret)
	_, err := e.stdout.Write(keyfile.Line(k))
	return err
}

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
			k.GetId(), stateName(k.GetState()), cmp.Or(k.GetLabel(), "-"), cmp.Or(k.GetUser(), "-"), cmp.Or(k.GetTeam(), "-"), cmp.Or(k.GetPlan(), "-"),
			timeText(k.GetExpires(), "never"), cmp.Or(strings.Join(k.GetModels(), ", "), "all"),
		}, "\t"))
	}
	return table.Flush()
}

func stateName(s adminv1.KeyState) string {
	return strings.ToLower(strings.TrimPrefix(s.String(), "KEY_STATE_"))
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
	line("state", stateName(k.GetState()))
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

type keysUpdateCmd struct {
	clientKeyFlags
	ID       string    `arg:"" help:"Id of the key."`
	Enable   bool      `xor:"enabled" help:"Have it work again."`
	Disable  bool      `xor:"enabled" help:"Have it refused until it is enabled again."`
	Label    *string   `placeholder:"TEXT" help:"What people call the key."`
	User     *string   `help:"Whose key it is."`
	Team     *string   `help:"The user's team."`
	Plan     *string   `help:"A plan of weir.yaml."`
	Models   *[]string `placeholder:"NAME" help:"Models it may use; all if empty."`
	Endpoint *[]string `name:"endpoints" placeholder:"PATH" help:"Paths it may call; all if empty."`
	CIDRs    *[]string `name:"cidrs" placeholder:"RANGE" help:"Addresses it may be used from; every one if empty."`
	Expires  *string   `placeholder:"TIME" help:"When it stops working, as of weir keys new; never if empty."`
}

// Run changes what is given.
func (c *keysUpdateCmd) Run(e *env) error {
	req := &adminv1.UpdateKeyRequest{
		Id: c.ID, Label: c.Label, User: c.User, Team: c.Team, Plan: c.Plan,
		Models: values(c.Models), Endpoints: values(c.Endpoint), Cidrs: values(c.CIDRs),
	}
	if c.Enable || c.Disable {
		req.Enabled = &c.Enable
	}
	if c.Expires != nil {
		var err error
		if req.Expires, err = parseExpiry(*c.Expires, time.Now()); err != nil {
			return usageError{fmt.Errorf("--expires: %w", err)}
		}
		req.NeverExpires = req.Expires == nil
	}
	s, err := c.service(e, false)
	if err != nil {
		return err
	}
	resp, err := s.Update(e.ctx, connect.NewRequest(req))
	if err != nil {
		return c.answered(err)
	}
	return c.shown(e, resp.Msg, resp.Msg.GetKey())
}

// values is a list that may be meant to be empty; nil if it is not given.
func values(list *[]string) *adminv1.Values {
	if list == nil {
		return nil
	}
	v := &adminv1.Values{}
	for _, s := range *list {
		if s != "" {
			v.Values = append(v.Values, s)
		}
	}
	return v
}

type keysRevokeCmd struct {
	clientKeyFlags
	ID string `arg:"" help:"Id of the key."`
}

// Run ends a key.
func (c *keysRevokeCmd) Run(e *env) error {
	s, err := c.service(e, false)
	if err != nil {
		return err
	}
	resp, err := s.Revoke(e.ctx, connect.NewRequest(&adminv1.RevokeKeyRequest{Id: c.ID}))
	if err != nil {
		return c.answered(err)
	}
	if c.Output == "json" {
		return printMessage(e.stdout, resp.Msg)
	}
	fmt.Fprintf(e.stdout, "Key %s is revoked.\n", c.ID)
	return nil
}

type keysRotateCmd struct {
	clientKeyFlags
	ID    string `arg:"" help:"Id of the key."`
	Grace string `default:"0s" placeholder:"DURATION" help:"How long the present secret goes on working beside the new one, such as 24h or 7d (${default})."`
}

// Run gives a key another secret.
func (c *keysRotateCmd) Run(e *env) error {
	grace, err := parseSpan(c.Grace)
	if err != nil || grace < 0 {
		return usageError{fmt.Errorf("--grace: %q is no duration: want one such as 24h or 7d", c.Grace)}
	}
	s, err := c.service(e, false)
	if err != nil {
		return err
	}
	resp, err := s.Rotate(e.ctx, connect.NewRequest(&adminv1.RotateKeyRequest{Id: c.ID, Grace: durationpb.New(grace)}))
	if err != nil {
		return c.answered(err)
	}
	says := fmt.Sprintf("Key %s has another secret, and its old one works no more. The new one, shown this once:", c.ID)
	if grace > 0 {
		says = fmt.Sprintf("Key %s has another secret; its old one works for %s more. The new one, shown this once:", c.ID, c.Grace)
	}
	return c.secret(e, resp.Msg, says)
}

type keysImportCmd struct {
	configFlags
	Older  string `arg:"" name:"json" help:"File of the older gateway: {\"keys\": [{\"key\", \"user\", \"quota\", \"enabled\"}]}."`
	File   string `placeholder:"FILE" help:"Key file to add them to. Default: the first of weir.yaml in weir's own format."`
	Output string `short:"o" default:"text" enum:"text,json" help:"text or json (${default})."`
}

// Run takes keys over.
func (c *keysImportCmd) Run(e *env) error {
	files, _, err := clientKeyFlags{configFlags: c.configFlags, File: c.File}.site(e)
	if err != nil {
		return err
	}
	ids, err := keyfile.Store{Files: files}.Import(c.Older, c.File, time.Now())
	if err != nil {
		return err
	}
	if c.Output == "json" {
		return json.NewEncoder(e.stdout).Encode(struct {
			Imported []string `json:"imported"` // ids
		}{append([]string{}, ids...)})
	}
	text := "%[1]s taken over, with the same secrets. "
	if len(ids) == 0 {
		text = "All keys of %[2]s are there already: nothing was changed. "
	}
	were := map[bool]string{true: " was", false: " were"}[len(ids) == 1]
	fmt.Fprintf(e.stdout, text+"Take %[2]s out of keys.files in weir.yaml, and then away: it holds the secrets.\n", count(len(ids), "key")+were, c.Older)
	return nil
}

type keysReloadCmd struct {
	askFlags
	Force bool `help:"Also if more than half of the keys in use are gone from the files."`
}

// Run has the running weir read the files.
func (c *keysReloadCmd) Run(e *env) error {
	var answer admin.Reloaded
	path := "/admin/reload-keys"
	if c.Force {
		path += "?force=true"
	}
	raw, err := c.ask(e, http.MethodPost, path, &answer)
	if err != nil {
		return err
	}
	if c.Output == "json" {
		_, err := e.stdout.Write(raw)
		return err
	}
	are := map[bool]string{true: "is", false: "are"}[answer.Keys == 1]
	fmt.Fprintf(e.stdout, "%s %s in force.\n", count(answer.Keys, "client key"), are)
	return nil
}

// answered is what a service answered, as people are told it.
func (f adminFlags) answered(err error) error {
	var refusal *connect.Error
	switch {
	case errors.Is(err, context.Canceled), !errors.As(err, &refusal):
		return err
	case f.Admin == "":
	case refusal.Code() == connect.CodeUnavailable:
		return fmt.Errorf("no weir answers at %s (%s): is it running, with that address as admin.listen in its weir.yaml?", f.Admin, refusal.Message())
	case refusal.Code() == connect.CodeUnauthenticated:
		return fmt.Errorf("the weir at %s does not know the token in %s: it takes the one in the file that admin.token_file in its weir.yaml names", f.Admin, f.TokenFile)
	case refusal.Code() == connect.CodeUnimplemented:
		return fmt.Errorf("what answers at %s is not the admin API of a weir: see admin.listen in its weir.yaml", f.Admin)
	}
	return errors.New(refusal.Message())
}

// printMessage prints JSON for programs.
func printMessage(w io.Writer, m proto.Message) error {
	text, err := protoprint.JSON(m, true)
	if err != nil {
		return err
	}
	_, err = fmt.Fprintf(w, "%s\n", text)
	return err
}
