package main

import (
	"context"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/go-jose/go-jose/v4"
	"github.com/go-jose/go-jose/v4/jwt"
)

const (
	keysLiveFor     = 5 * time.Minute
	keysAskedAtMost = 10 * time.Second
	answerBytes     = 1 << 20
)

// Gate lets requests through that show a living credential. Broker must trust the broker's server certificate and show this
// server's own, by which the broker knows for which audience it may ask.
type Gate struct {
	Issuer   string // the broker's base URL, byte for byte
	Audience string
	Broker   *http.Client

	mutex sync.Mutex
	keys  jose.JSONWebKeySet
	asked time.Time
}

// Claims are what a token says, as far as this server uses it.
type Claims struct {
	jwt.Claims
	ClientID     string `json:"client_id"`
	Confirmation struct {
		Certificate string `json:"x5t#S256"`
	} `json:"cnf"`
	Details []struct {
		Type     string   `json:"type"`
		Audience string   `json:"audience"`
		Actions  []string `json:"actions"`
	} `json:"authorization_details"`
}

type refusal struct {
	status    int
	challenge string
	why       string
}

func (r *refusal) Error() string { return r.why }

func invalid(why string) error {
	return &refusal{http.StatusUnauthorized, `Bearer error="invalid_token"`, why}
}

// Require serves what next does to those who may do action.
func (g *Gate) Require(action string, next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		_, err := g.Check(r, action)
		var no *refusal
		switch {
		case err == nil:
			next.ServeHTTP(w, r)
		case errors.As(err, &no):
			w.Header().Set("WWW-Authenticate", no.challenge)
			http.Error(w, no.why, no.status)
		default:
			// Whoever cannot be asked has not said yes.
			http.Error(w, "the broker cannot be asked; try again", http.StatusServiceUnavailable)
		}
	})
}

// Check says whether the request may do the action: by the token itself, and by the broker, who knows whether its task runs.
func (g *Gate) Check(r *http.Request, action string) (*Claims, error) {
	token, found := strings.CutPrefix(r.Header.Get("Authorization"), "Bearer ")
	if !found || len(r.Header.Values("Authorization")) != 1 {
		return nil, &refusal{http.StatusUnauthorized, "Bearer", "send one bearer token"}
	}
	claims, err := g.verify(r.Context(), token)
	if err != nil {
		return nil, err
	}
	// RFC 8705 section 3: a token that is bound to another certificate has been stolen. One bound to none is not taken.
	if r.TLS == nil || len(r.TLS.PeerCertificates) == 0 {
		return nil, invalid("the connection shows no certificate")
	}
	digest := sha256.Sum256(r.TLS.PeerCertificates[0].Raw)
	if claims.Confirmation.Certificate != base64.RawURLEncoding.EncodeToString(digest[:]) {
		return nil, invalid("the token is bound to another certificate")
	}
	if !claims.allows(g.Audience, action) {
		return nil, &refusal{http.StatusForbidden, `Bearer error="insufficient_scope"`, "the token does not allow it"}
	}
	return claims, g.mustLive(r.Context(), token)
}

// verify looks at signature, type, issuer, audience and times (RFC 9068 section 4).
func (g *Gate) verify(ctx context.Context, token string) (*Claims, error) {
	parsed, err := jwt.ParseSigned(token, []jose.SignatureAlgorithm{jose.ES256})
	if err != nil {
		return nil, invalid("this is no ES256 token")
	}
	header := parsed.Headers[0]
	if header.ExtraHeaders[jose.HeaderType] != "at+jwt" {
		return nil, invalid("this is no access token")
	}
	key, err := g.key(ctx, header.KeyID)
	if err != nil {
		return nil, err
	}
	claims := new(Claims)
	if err := parsed.Claims(key, claims); err != nil {
		return nil, invalid("the signature or a claim is wrong")
	}
	expected := jwt.Expected{Issuer: g.Issuer, AnyAudience: jwt.Audience{g.Audience}, Time: time.Now()}
	if claims.Expiry == nil || len(claims.Audience) != 1 || claims.ValidateWithLeeway(expected, 0) != nil {
		return nil, invalid("the token is for somebody else, or not valid now")
	}
	return claims, nil
}

func (c *Claims) allows(audience, action string) bool {
	for _, entry := range c.Details {
		if entry.Type == "resource_access" && entry.Audience == audience && slices.Contains(entry.Actions, action) {
			return true
		}
	}
	return false
}

// mustLive asks the broker (RFC 7662). An answer holds for the moment it is given in, so none is kept.
func (g *Gate) mustLive(ctx context.Context, token string) error {
	form := strings.NewReader(url.Values{"token": {token}}.Encode())
	request, err := http.NewRequestWithContext(ctx, http.MethodPost, g.Issuer+"/oauth2/introspect", form)
	if err != nil {
		return err
	}
	request.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	var answer struct {
		Active bool `json:"active"`
	}
	if err := g.ask(request, &answer); err != nil {
		return err
	}
	if !answer.Active {
		return invalid("the token's task is over")
	}
	return nil
}

// key finds a key of the broker's, and asks for new ones when they are old or this one is not among them.
func (g *Gate) key(ctx context.Context, id string) (*jose.JSONWebKey, error) {
	g.mutex.Lock()
	defer g.mutex.Unlock()
	found := g.keys.Key(id)
	age := time.Since(g.asked)
	if age > keysLiveFor || (len(found) == 0 && age > keysAskedAtMost) {
		request, err := http.NewRequestWithContext(ctx, http.MethodGet, g.Issuer+"/oauth2/jwks", nil)
		if err != nil {
			return nil, err
		}
		var keys jose.JSONWebKeySet
		if err := g.ask(request, &keys); err != nil {
			return nil, err
		}
		g.keys, g.asked = keys, time.Now()
		found = g.keys.Key(id)
	}
	if len(found) != 1 || found[0].Algorithm != string(jose.ES256) || found[0].Use != "sig" {
		return nil, invalid("the broker has no such key")
	}
	return &found[0], nil
}

func (g *Gate) ask(request *http.Request, into any) error {
	answer, err := g.Broker.Do(request)
	if err != nil {
		return err
	}
	defer answer.Body.Close()
	if answer.StatusCode != http.StatusOK {
		return fmt.Errorf("%s answers %s", request.URL.Path, answer.Status)
	}
	return json.NewDecoder(io.LimitReader(answer.Body, answerBytes)).Decode(into)
}
