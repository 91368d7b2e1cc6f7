package main

import (
	"encoding/json"
	"fmt"
	"net/http"
	"time"

	"connectrpc.com/connect"
	"google.golang.org/protobuf/types/known/durationpb"

	"github.com/weir-gateway/weir/admin"
	"github.com/weir-gateway/weir/keyring/keyfile"
	adminv1 "github.com/weir-gateway/weir/proto/weir/admin/v1"
)

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
