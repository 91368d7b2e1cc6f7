package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"net/http"
	"net/url"
	"os"
	"slices"
	"strings"
	"time"

	"connectrpc.com/connect"
	"github.com/rs/zerolog"
	"google.golang.org/protobuf/proto"
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
