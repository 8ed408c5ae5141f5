// An address or an invitation that somebody typed, and what the network behind it says of itself.

import { t } from "../../i18n/index.svelte";
import { commands } from "../../lib/commands";
import {
  refusalFault,
  unreachableDetails,
  unreachableSentence,
  type Fault,
} from "../../lib/wording";
import { asCallError, type LookedUp } from "../../platform/types";

export type NetworkSeen = Extract<LookedUp, { answer: "network" }>;

export class LookUp {
  #text = $state("");
  asking = $state(false);
  fault = $state.raw<Fault | null>(null);
  /** What answered to the text that stands in the field. */
  network = $state.raw<NetworkSeen | null>(null);
  /** The address that did not answer, in full; null for what is no address. */
  silent = $state.raw<string | null>(null);

  constructor(text: string) {
    this.#text = text;
  }

  get text(): string {
    return this.#text;
  }

  set text(text: string) {
    if (text.trim() !== this.#text.trim()) this.#forget();
    this.#text = text;
  }

  /** Asks the network who it is. What was typed meanwhile is asked for itself. */
  async ask(): Promise<void> {
    const asked = this.#text.trim();
    if (asked === "") return;
    this.asking = true;
    this.#forget();
    try {
      const told = await commands.look_up_network({ address: asked });
      if (asked === this.#text.trim()) this.#take(told);
    } catch (error) {
      this.fault = refusalFault(asCallError(error));
    } finally {
      this.asking = false;
    }
  }

  /** Joins it, and works for it from now on. False where it cannot be, with the reason shown. */
  async join(): Promise<boolean> {
    try {
      await commands.join_network({ address: this.#text.trim() });
      return true;
    } catch (error) {
      this.fault = refusalFault(asCallError(error));
      return false;
    }
  }

  #take(told: LookedUp): void {
    switch (told.answer) {
      case "network":
        this.network = told;
        if (needsInvitation(told)) {
          this.fault = { text: t("networks.invitation_needed"), details: null };
        }
        break;
      case "bad_address":
        this.fault = { text: t(`refused.address.${told.fault}`), details: told.message };
        break;
      case "bad_invitation":
        this.fault = { text: t(`invitation.${told.fault}`), details: told.message };
        break;
      case "unreachable":
        this.silent = told.url;
        this.fault = {
          text: unreachableSentence(told.reason),
          details: unreachableDetails(told.reason),
        };
        break;
    }
  }

  #forget(): void {
    this.fault = this.network = this.silent = null;
  }
}

/** It takes only those who are invited, and this was an address. */
export function needsInvitation({ admission, invitation }: NetworkSeen): boolean {
  return admission === "invitation" && invitation === null;
}
