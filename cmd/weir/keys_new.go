package main

import (
	"cmp"
	"errors"
	"fmt"
	"time"

	"connectrpc.com/connect"
	"google.golang.org/protobuf/proto"

	"github.com/weir-gateway/weir/admin"
	"github.com/weir-gateway/weir/keyring"
	"github.com/weir-gateway/weir/keyring/keyfile"
	adminv1 "github.com/weir-gateway/weir/proto/weir/admin/v1"
)

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
