package dashboard

import (
	"cmp"
	"context"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"time"

	"connectrpc.com/connect"
	"google.golang.org/protobuf/types/known/durationpb"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/weir-gateway/weir/admin"
	adminv1 "github.com/weir-gateway/weir/proto/weir/admin/v1"
)

// keysEachPage bounds how many keys' limits the store is asked about at once.
const keysEachPage = 25

// keyRow is a key, and where the limits stand that are its own.
type keyRow struct {
	*adminv1.Key
	Limits []limit
}

// Status is the key's state in a word.
func (k keyRow) Status() string { return admin.KeyStateWord(k.GetState()) }

// Path is the address of the key's page.
func (k keyRow) Path() string { return keyPath(k.GetId()) }

func keyPath(id string) string { return root + "/keys/key?" + url.Values{"id": {id}}.Encode() }

// keysPage is the page of all keys.
type keysPage struct {
	Keys     []keyRow
	Pager    pager
	Query    string
	State    string
	States   []string
	All      int    // keys, without the filter
	Untold   string // why nothing is known of limits
	Stale    string // why the newest key files are not in force
	Filtered bool
}

func (d *Dashboard) keys(r *http.Request) (*view, error) {
	resp, err := d.opts.Services.Keys.List(r.Context(), connect.NewRequest(&adminv1.ListKeysRequest{}))
	if err != nil {
		return nil, err
	}
	q := r.URL.Query()
	b := keysPage{Query: strings.TrimSpace(q.Get("q")), State: q.Get("state"), States: []string{"active", "disabled", "expired", "revoked"}, All: len(resp.Msg.GetKeys())}
	b.Filtered = b.Query != "" || b.State != ""
	if err := d.opts.Keys().Err; err != nil {
		b.Stale = sentence(err)
	}
	list := slices.DeleteFunc(resp.Msg.GetKeys(), func(k *adminv1.Key) bool {
		return b.State != "" && admin.KeyStateWord(k.GetState()) != b.State ||
			b.Query != "" && !contains(b.Query, k.GetId(), k.GetLabel(), k.GetUser(), k.GetTeam(), k.GetPlan())
	})
	b.Pager = newPager(r, len(list), keysEachPage)
	for _, k := range list[b.Pager.From:b.Pager.To] {
		row := keyRow{Key: k}
		if b.Untold == "" {
			if row.Limits, err = d.ownLimits(r.Context(), k.GetId()); err != nil {
				b.Untold = sentence(err)
			}
		}
		b.Keys = append(b.Keys, row)
	}
	return &view{Template: "keys", Title: "Keys", Section: "keys", Every: 5 * time.Second, Body: b}, nil
}

// ownLimits are a key's limits that nobody else is counted in.
func (d *Dashboard) ownLimits(ctx context.Context, id string) ([]limit, error) {
	list, err := d.limitsOf(ctx, id)
	return slices.DeleteFunc(list, func(l limit) bool { return l.GetKey() != id }), err
}

// keyPage is the page of one key.
type keyPage struct {
	Key    keyRow
	Facts  []fact
	Untold string // why nothing is known of limits
	Live   int    // requests in flight
	Graces []grace
}

type fact struct{ Name, Value string }

// grace is for how long a secret that is replaced goes on working.
type grace struct {
	Value, Name string
}

var graces = []grace{{"24h", "24 hours"}, {"1h", "an hour"}, {"168h", "a week"}, {"0s", "not at all"}}

func (d *Dashboard) key(r *http.Request) (*view, error) {
	id := r.URL.Query().Get("id")
	resp, err := d.opts.Services.Keys.Show(r.Context(), connect.NewRequest(&adminv1.ShowKeyRequest{Id: id}))
	if err != nil {
		return nil, err
	}
	b := keyPage{Key: keyRow{Key: resp.Msg.GetKey()}, Graces: graces}
	b.Facts = facts(b.Key.Key)
	if b.Key.Limits, err = d.limitsOf(r.Context(), id); err != nil {
		b.Untold = sentence(err)
	}
	live, err := d.opts.Services.Exchanges.List(r.Context(), connect.NewRequest(&adminv1.ListExchangesRequest{Key: id}))
	if err != nil {
		return nil, err
	}
	b.Live = len(live.Msg.GetExchanges())
	return &view{Template: "key", Title: "Key " + id, Section: "keys", Every: 5 * time.Second, Body: b}, nil
}

// facts are what is known of a key, without what is not said.
func facts(k *adminv1.Key) []fact {
	list := []fact{
		{"Label", k.GetLabel()},
		{"User", k.GetUser()},
		{"Team", k.GetTeam()},
		{"Plan", k.GetPlan()},
		{"Models", cmp.Or(strings.Join(k.GetModels(), ", "), "all")},
		{"Endpoints", cmp.Or(strings.Join(k.GetEndpoints(), ", "), "all")},
		{"Addresses", cmp.Or(strings.Join(k.GetCidrs(), ", "), "all")},
		{"Created", stamp(k.GetCreated())},
		{"Expires", cmp.Or(stamp(k.GetExpires()), "never")},
		{"Revoked", stamp(k.GetRevoked())},
		{"File", k.GetFile()},
	}
	for _, until := range k.GetPreviousUntil() {
		list = append(list, fact{"An earlier secret works until", stamp(until)})
	}
	for _, name := range sorted(k.GetMetadata()) {
		list = append(list, fact{"Metadata: " + name, k.GetMetadata()[name]})
	}
	return slices.DeleteFunc(list, func(f fact) bool { return f.Value == "" })
}

// newKeyPage is the form of a new key.
type newKeyPage struct {
	Label, User, Team, Plan, Models, Endpoints, CIDRs, Expires string
	Plans                                                      []string
	Error                                                      string
}

func (d *Dashboard) newKeyView(form newKeyPage) *view {
	form.Plans = d.opts.Plans()
	return &view{Template: "newkey", Title: "New key", Section: "keys", Body: form}
}

func (d *Dashboard) newKey(*http.Request) (*view, error) { return d.newKeyView(newKeyPage{}), nil }

func (d *Dashboard) createKey(r *http.Request) (to string, t told, err error) {
	v := func(name string) string { return strings.TrimSpace(r.PostForm.Get(name)) }
	form := newKeyPage{
		Label: v("label"), User: v("user"), Team: v("team"), Plan: v("plan"), Models: v("models"), Endpoints: v("endpoints"), CIDRs: v("cidrs"), Expires: v("expires"),
	}
	failed := func(err error) (string, told, error) {
		form.Error = sentence(err)
		shown := d.newKeyView(form)
		shown.Status = http.StatusUnprocessableEntity
		return "", told{}, &again{shown}
	}
	options := &adminv1.KeyOptions{
		Label: form.Label, User: form.User, Team: form.Team, Plan: form.Plan, Models: list(form.Models), Endpoints: list(form.Endpoints), Cidrs: list(form.CIDRs),
	}
	if form.Expires != "" {
		at, err := time.Parse(time.DateOnly, form.Expires)
		if err != nil {
			return failed(connect.NewError(connect.CodeInvalidArgument, fmt.Errorf("the expiry is no date: %q", form.Expires)))
		}
		options.Expires = timestamppb.New(at)
	}
	resp, err := d.opts.Services.Keys.Create(r.Context(), connect.NewRequest(&adminv1.CreateKeyRequest{Options: options}))
	if err != nil {
		return failed(err)
	}
	id := resp.Msg.GetKey().GetId()
	t = told{Text: "Key " + id + " was made. Its secret is shown this once: copy it now.", Secret: resp.Msg.GetSecret(), Pending: resp.Msg.GetPending()}
	if t.Pending != "" { // there is no page of it yet
		return root + "/keys", t, nil
	}
	return keyPath(id), t, nil
}

// list is what stands between commas or spaces.
func list(text string) []string {
	return strings.FieldsFunc(text, func(c rune) bool { return c == ',' || c == ' ' || c == '\n' || c == '\r' || c == '\t' })
}

func (d *Dashboard) rotateKey(r *http.Request) (to string, t told, err error) {
	id := r.PostForm.Get("id")
	long, err := time.ParseDuration(r.PostForm.Get("grace"))
	if err != nil {
		return keyPath(id), t, fmt.Errorf("say for how long the present secret is to work: %w", err)
	}
	resp, err := d.opts.Services.Keys.Rotate(r.Context(), connect.NewRequest(&adminv1.RotateKeyRequest{Id: id, Grace: durationpb.New(long)}))
	if err != nil {
		return keyPath(id), t, err
	}
	return keyPath(id), told{Text: "Key " + id + " has a new secret, which is shown this once: copy it now.", Secret: resp.Msg.GetSecret(), Pending: resp.Msg.GetPending()}, nil
}

func (d *Dashboard) revokeKey(r *http.Request) (to string, t told, err error) {
	id := r.PostForm.Get("id")
	_, err = d.opts.Services.Keys.Revoke(r.Context(), connect.NewRequest(&adminv1.RevokeKeyRequest{Id: id}))
	return keyPath(id), told{Text: "Key " + id + " is revoked."}, err
}

func (d *Dashboard) enableKey(r *http.Request) (to string, t told, err error) {
	return d.switchKey(r, true, "enabled")
}

func (d *Dashboard) disableKey(r *http.Request) (to string, t told, err error) {
	return d.switchKey(r, false, "disabled")
}

func (d *Dashboard) switchKey(r *http.Request, on bool, state string) (to string, t told, err error) {
	id := r.PostForm.Get("id")
	_, err = d.opts.Services.Keys.Update(r.Context(), connect.NewRequest(&adminv1.UpdateKeyRequest{Id: id, Enabled: &on}))
	return keyPath(id), told{Text: "Key " + id + " is " + state + "."}, err
}
