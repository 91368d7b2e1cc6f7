package admin

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"time"

	"connectrpc.com/connect"
	"github.com/rs/zerolog"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/weir-gateway/weir/config"
	"github.com/weir-gateway/weir/keyring"
	"github.com/weir-gateway/weir/keyring/keyfile"
	adminv1 "github.com/weir-gateway/weir/proto/weir/admin/v1"
	configv1 "github.com/weir-gateway/weir/proto/weir/config/v1"
)

// Keys is the KeysService, over a keyring and the files behind it.
type Keys struct {
	ring  *keyring.Keyring
	files keyfile.Store
	plans func() []string // that there are; nil: unknown
	log   zerolog.Logger
}

// NewKeys returns a service over those keys. Plans are the names that keys may have as
// their plan; nil allows every one.
func NewKeys(ring *keyring.Keyring, plans func() []string, log zerolog.Logger) *Keys {
	return &Keys{ring: ring, files: keyfile.Store{Files: ring.Files()}, plans: plans, log: log}
}

// List tells of all keys in force.
func (s *Keys) List(_ context.Context, req *connect.Request[adminv1.ListKeysRequest]) (*connect.Response[adminv1.ListKeysResponse], error) {
	out := &adminv1.ListKeysResponse{}
	for _, k := range s.ring.Ring().Keys() {
		if m := req.Msg; (m.GetUser() == "" || m.GetUser() == k.User) && (m.GetTeam() == "" || m.GetTeam() == k.Team) {
			out.Keys = append(out.Keys, keyMessage(k, time.Now()))
		}
	}
	return connect.NewResponse(out), nil
}

// Show tells of one key.
func (s *Keys) Show(_ context.Context, req *connect.Request[adminv1.ShowKeyRequest]) (*connect.Response[adminv1.ShowKeyResponse], error) {
	k, err := s.find(req.Msg.GetId())
	if err != nil {
		return nil, err
	}
	return connect.NewResponse(&adminv1.ShowKeyResponse{Key: k}), nil
}

func (s *Keys) find(id string) (*adminv1.Key, error) {
	k, ok := s.ring.Ring().ByID(id)
	if !ok {
		return nil, connect.NewError(connect.CodeNotFound, fmt.Errorf("there is no key with the id %q", id))
	}
	return keyMessage(k, time.Now()), nil
}

// Create makes a key.
func (s *Keys) Create(ctx context.Context, req *connect.Request[adminv1.CreateKeyRequest]) (*connect.Response[adminv1.CreateKeyResponse], error) {
	k := KeyOf(req.Msg.GetOptions())
	if err := s.checkPlan(k.GetPlan()); err != nil {
		return nil, err
	}
	if t := req.Msg.GetOptions().GetExpires(); t != nil && !t.AsTime().After(time.Now()) {
		return nil, connect.NewError(connect.CodeInvalidArgument, errors.New("expires is over, and the key would never work"))
	}
	secret, err := s.files.Create(k, req.Msg.GetFile(), time.Now())
	if err != nil {
		return nil, refused(err)
	}
	key, pending := s.told(ctx, "key created", k.GetId())
	return connect.NewResponse(&adminv1.CreateKeyResponse{Key: key, Secret: secret, Pending: pending}), nil
}

// told is done for changes that have made a secret: it is told in any case, as nobody
// could find it out later.
func (s *Keys) told(ctx context.Context, what, id string) (key *adminv1.Key, pending string) {
	key, err := s.done(ctx, what, id)
	if err != nil {
		return &adminv1.Key{Id: id}, message(err)
	}
	return key, ""
}

// message is what an error says, without its code.
func message(err error) string {
	if c := (*connect.Error)(nil); errors.As(err, &c) {
		return c.Message()
	}
	return err.Error()
}

// KeyOf is a key as files have it, without id and secret.
func KeyOf(o *adminv1.KeyOptions) *configv1.Key {
	return &configv1.Key{
		Label: o.GetLabel(), User: o.GetUser(), Team: o.GetTeam(), Plan: o.GetPlan(), Models: o.GetModels(), Endpoints: o.GetEndpoints(),
		Cidrs: o.GetCidrs(), Expires: moment(o.GetExpires()), Limits: o.GetLimits(), Metadata: o.GetMetadata(),
	}
}

func (s *Keys) checkPlan(plan string) error {
	if plan == "" || s.plans == nil {
		return nil
	}
	plans := s.plans()
	if slices.Contains(plans, plan) {
		return nil
	}
	there := "there are none"
	if len(plans) > 0 {
		there = "there are: " + strings.Join(plans, ", ")
	}
	return connect.NewError(connect.CodeInvalidArgument, fmt.Errorf("weir.yaml has no plan %q; %s", plan, there))
}

// Update changes what is given.
func (s *Keys) Update(ctx context.Context, req *connect.Request[adminv1.UpdateKeyRequest]) (*connect.Response[adminv1.UpdateKeyResponse], error) {
	m := req.Msg
	if m.GetNeverExpires() && m.GetExpires() != nil {
		return nil, connect.NewError(connect.CodeInvalidArgument, errors.New("expires and never_expires are given: keep one of them"))
	}
	if err := s.checkPlan(m.GetPlan()); err != nil {
		return nil, err
	}
	err := s.files.Change(m.GetId(), func(k *configv1.Key) error {
		apply(m, k)
		return nil
	})
	if err != nil {
		return nil, refused(err)
	}
	what := "key updated"
	if m.Enabled != nil {
		what = map[bool]string{true: "key enabled", false: "key disabled"}[m.GetEnabled()]
	}
	key, err := s.done(ctx, what, m.GetId())
	if err != nil {
		return nil, err
	}
	return connect.NewResponse(&adminv1.UpdateKeyResponse{Key: key}), nil
}

func apply(m *adminv1.UpdateKeyRequest, k *configv1.Key) {
	if m.Enabled != nil {
		k.Enabled = m.Enabled
		if m.GetEnabled() {
			k.Enabled = nil // as keys are that nobody ever disabled
		}
	}
	for _, text := range []struct {
		from *string
		to   *string
	}{{m.Label, &k.Label}, {m.User, &k.User}, {m.Team, &k.Team}, {m.Plan, &k.Plan}} {
		if text.from != nil {
			*text.to = *text.from
		}
	}
	for _, list := range []struct {
		from *adminv1.Values
		to   *[]string
	}{{m.GetModels(), &k.Models}, {m.GetEndpoints(), &k.Endpoints}, {m.GetCidrs(), &k.Cidrs}} {
		if list.from != nil {
			*list.to = list.from.GetValues()
		}
	}
	if m.GetExpires() != nil || m.GetNeverExpires() {
		k.Expires = moment(m.GetExpires())
	}
}

// Revoke ends a key for good.
func (s *Keys) Revoke(ctx context.Context, req *connect.Request[adminv1.RevokeKeyRequest]) (*connect.Response[adminv1.RevokeKeyResponse], error) {
	if err := s.files.Revoke(req.Msg.GetId(), time.Now()); err != nil {
		return nil, refused(err)
	}
	key, err := s.done(ctx, "key revoked", req.Msg.GetId())
	if err != nil {
		return nil, err
	}
	return connect.NewResponse(&adminv1.RevokeKeyResponse{Key: key}), nil
}

// Rotate gives a key another secret.
func (s *Keys) Rotate(ctx context.Context, req *connect.Request[adminv1.RotateKeyRequest]) (*connect.Response[adminv1.RotateKeyResponse], error) {
	grace := req.Msg.GetGrace().AsDuration()
	if grace < 0 {
		return nil, connect.NewError(connect.CodeInvalidArgument, errors.New("grace is negative"))
	}
	secret, err := s.files.Rotate(req.Msg.GetId(), grace, time.Now())
	if err != nil {
		return nil, refused(err)
	}
	key, pending := s.told(ctx, "key rotated", req.Msg.GetId())
	return connect.NewResponse(&adminv1.RotateKeyResponse{Key: key, Secret: secret, Pending: pending}), nil
}

// done puts a change of the files in force, and notes it.
func (s *Keys) done(ctx context.Context, what, id string) (*adminv1.Key, error) {
	Audit(ctx, s.log, what).Info().Str("key", id).Msg("an operator changed a client key")
	if err := s.ring.Reload(false); err != nil {
		return nil, connect.NewError(connect.CodeFailedPrecondition, fmt.Errorf("the change of key %s is written, and is not in force before the key files are mended: %w", id, err))
	}
	return s.find(id)
}

// refused is an error of the key files as callers get it.
func refused(err error) error {
	code := connect.CodeFailedPrecondition
	if errors.Is(err, keyfile.ErrNoKey) {
		code = connect.CodeNotFound
	}
	return connect.NewError(code, err)
}

// keyMessage is a key as operators see it.
func keyMessage(k *keyring.Key, now time.Time) *adminv1.Key {
	m := &adminv1.Key{
		Id: k.ID, Label: k.Label, User: k.User, Team: k.Team, Plan: k.Plan, Models: k.Models, Endpoints: k.Endpoints,
		Expires: timestamp(k.Expires), Created: timestamp(k.Created), Revoked: timestamp(k.Revoked),
		State: stateOf(k, now), Limits: config.LimitMessages(k.Limits), Metadata: k.Metadata, File: k.File,
	}
	for _, c := range k.CIDRs {
		m.Cidrs = append(m.Cidrs, netip.Prefix.String(c))
	}
	for _, until := range k.Previous {
		if now.Before(until) {
			m.PreviousUntil = append(m.PreviousUntil, timestamp(until))
		}
	}
	return m
}

func stateOf(k *keyring.Key, now time.Time) adminv1.KeyState {
	switch {
	case !k.Revoked.IsZero():
		return adminv1.KeyState_KEY_STATE_REVOKED
	case k.Disabled:
		return adminv1.KeyState_KEY_STATE_DISABLED
	case k.Expired(now):
		return adminv1.KeyState_KEY_STATE_EXPIRED
	}
	return adminv1.KeyState_KEY_STATE_ACTIVE
}

// timestamp is absent for the zero time.
func timestamp(t time.Time) *timestamppb.Timestamp {
	if t.IsZero() {
		return nil
	}
	return timestamppb.New(t)
}

// moment is a time as key files have it; "" for one that is absent.
func moment(t *timestamppb.Timestamp) string {
	if t == nil {
		return ""
	}
	return t.AsTime().UTC().Format(time.RFC3339)
}
