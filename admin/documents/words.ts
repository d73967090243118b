/** The words that stand on every document, in the languages that there are; any other language gets the English ones. */

export type Words = {
  /** BCP 47 language of these words. */
  readonly language: string;
  readonly invoice: (number: string) => string;
  readonly creditNote: (number: string) => string;
  /** Stands where a draft will have its number. */
  readonly draftNumber: string;
  /** What stands between a label and its value. */
  readonly colon: string;
  readonly billedTo: string;
  readonly creditedTo: string;
  readonly taxId: string;
  readonly marks: {
    readonly draft: string;
    readonly open: string;
    readonly failed: string;
    readonly paid: string;
    readonly void: string;
    readonly uncollectible: string;
  };
  readonly facts: {
    readonly period: string;
    readonly issued: string;
    readonly due: string;
    readonly paid: string;
    readonly voided: string;
    readonly plan: string;
    /** The void invoice that this one stands for, and the one that stands for this one. */
    readonly replaces: string;
    readonly replacedBy: string;
    readonly forInvoice: string;
    readonly reason: string;
  };
  readonly reasons: Readonly<
    Record<
      'duplicate' | 'mistake' | 'service_issue' | 'goodwill' | 'cancellation' | 'other',
      string
    >
  >;
  readonly table: { readonly heading: string; readonly item: string; readonly amount: string };
  readonly sums: {
    readonly subtotal: string;
    readonly discount: string;
    readonly tax: string;
    readonly reverseCharge: string;
    readonly taxBase: (base: string) => string;
    /** A tax that the prices hold already. */
    readonly included: (tax: string) => string;
    readonly total: string;
    readonly totalCredited: string;
    readonly fromBalance: string;
    readonly toBalance: string;
    readonly amountDue: string;
    readonly creditNote: (number: string, date: string) => string;
    readonly leftToPay: string;
    readonly dueReduced: string;
    readonly givenToBalance: string;
    readonly refunded: string;
  };
  readonly workings: {
    /** What an interval that is billed in parts cost so far, and what of it was billed before. */
    readonly billedBefore: (total: string, before: string) => string;
    /** The bound that a line brings a charge to. */
    readonly atLeast: (amount: string) => string;
    readonly atMost: (amount: string) => string;
  };
  readonly notes: {
    readonly draft: string;
    readonly void: string;
    readonly addedToBalance: (amount: string) => string;
    readonly reverseCharge: string;
    readonly exempt: (reason: string) => string;
    readonly currency: (code: string) => string;
    readonly unprintable: string;
  };
  readonly page: (page: number, pages: number) => string;
};

const en: Words = {
  language: 'en',
  invoice: (number) => `Invoice: ${number}`,
  creditNote: (number) => `Credit note: ${number}`,
  draftNumber: 'draft',
  colon: ': ',
  billedTo: 'Billed to',
  creditedTo: 'Credited to',
  taxId: 'Tax id',
  marks: {
    draft: 'Draft',
    open: 'Open',
    failed: 'Payment failed',
    paid: 'Paid',
    void: 'Void',
    uncollectible: 'Unpaid',
  },
  facts: {
    period: 'Period',
    issued: 'Issued',
    due: 'Due',
    paid: 'Paid',
    voided: 'Voided',
    plan: 'Plan',
    replaces: 'Replaces',
    replacedBy: 'Replaced by',
    forInvoice: 'For invoice',
    reason: 'Reason',
  },
  reasons: {
    duplicate: 'Billed twice',
    mistake: 'Billed by mistake',
    service_issue: 'Trouble with the service',
    goodwill: 'Goodwill',
    cancellation: 'Cancellation',
    other: 'Other',
  },
  table: { heading: 'Line Items', item: 'Item', amount: 'Amount' },
  sums: {
    subtotal: 'Subtotal',
    discount: 'Discount',
    tax: 'Tax',
    reverseCharge: 'Reverse charge',
    taxBase: (base) => `on ${base}`,
    included: (tax) => `Included: ${tax}`,
    total: 'Total',
    totalCredited: 'Total credited',
    fromBalance: 'From account balance',
    toBalance: 'To account balance',
    amountDue: 'Amount due',
    creditNote: (number, date) => `Credit note ${number}, ${date}`,
    leftToPay: 'Left to pay',
    dueReduced: 'Taken off what was due',
    givenToBalance: 'Added to the account balance',
    refunded: 'Paid back',
  },
  workings: {
    billedBefore: (total, before) => `${total} so far − ${before} billed before`,
    atLeast: (amount) => `at least ${amount}`,
    atMost: (amount) => `at most ${amount}`,
  },
  notes: {
    draft: 'This is a draft: its amounts may still change.',
    void: 'This invoice is void: nothing is owed for it.',
    addedToBalance: (amount) =>
      `The total is below zero: ${amount} was added to your account balance.`,
    reverseCharge: 'Reverse charge: the recipient of the service accounts for the tax.',
    exempt: (reason) => (reason === '' ? 'Exempt from tax.' : `Exempt from tax: ${reason}.`),
    currency: (code) => `All amounts in ${code}.`,
    unprintable:
      'Characters shown as □ are in no font of this file; the page in the browser shows them.',
  },
  page: (page, pages) => `Page ${page} of ${pages}`,
};

const de: Words = {
  language: 'de',
  invoice: (number) => `Rechnung ${number}`,
  creditNote: (number) => `Gutschrift ${number}`,
  draftNumber: '(Entwurf)',
  colon: ': ',
  billedTo: 'Rechnung an',
  creditedTo: 'Gutschrift an',
  taxId: 'Steuernummer',
  marks: {
    draft: 'Entwurf',
    open: 'Offen',
    failed: 'Zahlung fehlgeschlagen',
    paid: 'Bezahlt',
    void: 'Storniert',
    uncollectible: 'Unbezahlt',
  },
  facts: {
    period: 'Zeitraum',
    issued: 'Ausgestellt',
    due: 'Fällig',
    paid: 'Bezahlt',
    voided: 'Storniert',
    plan: 'Tarif',
    replaces: 'Ersetzt',
    replacedBy: 'Ersetzt durch',
    forInvoice: 'Zu Rechnung',
    reason: 'Grund',
  },
  reasons: {
    duplicate: 'Doppelt berechnet',
    mistake: 'Irrtümlich berechnet',
    service_issue: 'Störung des Dienstes',
    goodwill: 'Kulanz',
    cancellation: 'Kündigung',
    other: 'Sonstiges',
  },
  table: { heading: 'Positionen', item: 'Position', amount: 'Betrag' },
  sums: {
    subtotal: 'Zwischensumme',
    discount: 'Rabatt',
    tax: 'Steuer',
    reverseCharge: 'Steuerschuldnerschaft des Leistungsempfängers',
    taxBase: (base) => `auf ${base}`,
    included: (tax) => `Enthalten: ${tax}`,
    total: 'Gesamtbetrag',
    totalCredited: 'Gutgeschrieben',
    fromBalance: 'Aus dem Guthaben',
    toBalance: 'Dem Guthaben gutgeschrieben',
    amountDue: 'Zu zahlen',
    creditNote: (number, date) => `Gutschrift ${number}, ${date}`,
    leftToPay: 'Noch zu zahlen',
    dueReduced: 'Vom offenen Betrag abgezogen',
    givenToBalance: 'Dem Guthaben gutgeschrieben',
    refunded: 'Zurückgezahlt',
  },
  workings: {
    billedBefore: (total, before) => `${total} bisher − ${before} schon berechnet`,
    atLeast: (amount) => `mindestens ${amount}`,
    atMost: (amount) => `höchstens ${amount}`,
  },
  notes: {
    draft: 'Dies ist ein Entwurf: Die Beträge können sich noch ändern.',
    void: 'Diese Rechnung ist storniert: Für sie ist nichts zu zahlen.',
    addedToBalance: (amount) =>
      `Der Gesamtbetrag ist negativ: ${amount} wurden Ihrem Guthaben gutgeschrieben.`,
    reverseCharge: 'Steuerschuldnerschaft des Leistungsempfängers (Reverse Charge).',
    exempt: (reason) => (reason === '' ? 'Steuerfrei.' : `Steuerfrei: ${reason}.`),
    currency: (code) => `Alle Beträge in ${code}.`,
    unprintable:
      'Für mit □ gezeigte Zeichen hat diese Datei keine Schrift; die Seite im Browser zeigt sie.',
  },
  page: (page, pages) => `Seite ${page} von ${pages}`,
};

const fr: Words = {
  language: 'fr',
  invoice: (number) => `Facture ${number}`,
  creditNote: (number) => `Avoir ${number}`,
  draftNumber: '(brouillon)',
  colon: '\u00a0: ',
  billedTo: 'Facturé à',
  creditedTo: 'Avoir pour',
  taxId: 'N° fiscal',
  marks: {
    draft: 'Brouillon',
    open: 'À payer',
    failed: 'Paiement échoué',
    paid: 'Payée',
    void: 'Annulée',
    uncollectible: 'Impayée',
  },
  facts: {
    period: 'Période',
    issued: 'Émise le',
    due: 'Échéance',
    paid: 'Payée le',
    voided: 'Annulée le',
    plan: 'Offre',
    replaces: 'Remplace',
    replacedBy: 'Remplacée par',
    forInvoice: 'Pour la facture',
    reason: 'Motif',
  },
  reasons: {
    duplicate: 'Facturé deux fois',
    mistake: 'Facturé par erreur',
    service_issue: 'Incident de service',
    goodwill: 'Geste commercial',
    cancellation: 'Résiliation',
    other: 'Autre',
  },
  table: { heading: 'Détail', item: 'Désignation', amount: 'Montant' },
  sums: {
    subtotal: 'Sous-total',
    discount: 'Remise',
    tax: 'Taxe',
    reverseCharge: 'Autoliquidation',
    taxBase: (base) => `sur ${base}`,
    included: (tax) => `Dont ${tax}`,
    total: 'Total',
    totalCredited: 'Total de l’avoir',
    fromBalance: 'Prélevé sur le solde du compte',
    toBalance: 'Versé au solde du compte',
    amountDue: 'Montant à payer',
    creditNote: (number, date) => `Avoir ${number}, ${date}`,
    leftToPay: 'Reste à payer',
    dueReduced: 'Déduit du montant à payer',
    givenToBalance: 'Versé au solde du compte',
    refunded: 'Remboursé',
  },
  workings: {
    billedBefore: (total, before) => `${total} à ce jour − ${before} déjà facturé`,
    atLeast: (amount) => `au moins ${amount}`,
    atMost: (amount) => `au plus ${amount}`,
  },
  notes: {
    draft: 'Ceci est un brouillon\u00a0: les montants peuvent encore changer.',
    void: 'Cette facture est annulée\u00a0: rien n’est dû.',
    addedToBalance: (amount) =>
      `Le total est négatif\u00a0: ${amount} ont été versés au solde de votre compte.`,
    reverseCharge: 'Autoliquidation\u00a0: la taxe est due par le preneur.',
    exempt: (reason) => (reason === '' ? 'Exonéré de taxe.' : `Exonéré de taxe\u00a0: ${reason}.`),
    currency: (code) => `Tous les montants sont en ${code}.`,
    unprintable:
      'Les caractères affichés □ ne sont dans aucune police de ce fichier\u00a0; la page web les affiche.',
  },
  page: (page, pages) => `Page ${page} sur ${pages}`,
};

const es: Words = {
  language: 'es',
  invoice: (number) => `Factura ${number}`,
  creditNote: (number) => `Nota de crédito ${number}`,
  draftNumber: '(borrador)',
  colon: ': ',
  billedTo: 'Facturado a',
  creditedTo: 'Abonado a',
  taxId: 'N.º fiscal',
  marks: {
    draft: 'Borrador',
    open: 'Pendiente',
    failed: 'Pago fallido',
    paid: 'Pagada',
    void: 'Anulada',
    uncollectible: 'Impagada',
  },
  facts: {
    period: 'Período',
    issued: 'Emitida',
    due: 'Vencimiento',
    paid: 'Pagada',
    voided: 'Anulada',
    plan: 'Plan',
    replaces: 'Sustituye a',
    replacedBy: 'Sustituida por',
    forInvoice: 'De la factura',
    reason: 'Motivo',
  },
  reasons: {
    duplicate: 'Facturado dos veces',
    mistake: 'Facturado por error',
    service_issue: 'Problema del servicio',
    goodwill: 'Cortesía',
    cancellation: 'Cancelación',
    other: 'Otro',
  },
  table: { heading: 'Conceptos', item: 'Concepto', amount: 'Importe' },
  sums: {
    subtotal: 'Subtotal',
    discount: 'Descuento',
    tax: 'Impuesto',
    reverseCharge: 'Inversión del sujeto pasivo',
    taxBase: (base) => `sobre ${base}`,
    included: (tax) => `Incluido: ${tax}`,
    total: 'Total',
    totalCredited: 'Total abonado',
    fromBalance: 'Del saldo de la cuenta',
    toBalance: 'Al saldo de la cuenta',
    amountDue: 'Importe a pagar',
    creditNote: (number, date) => `Nota de crédito ${number}, ${date}`,
    leftToPay: 'Queda por pagar',
    dueReduced: 'Descontado de lo pendiente',
    givenToBalance: 'Abonado al saldo de la cuenta',
    refunded: 'Devuelto',
  },
  workings: {
    billedBefore: (total, before) => `${total} hasta ahora − ${before} ya facturado`,
    atLeast: (amount) => `al menos ${amount}`,
    atMost: (amount) => `como máximo ${amount}`,
  },
  notes: {
    draft: 'Es un borrador: los importes todavía pueden cambiar.',
    void: 'Esta factura está anulada: no se debe nada por ella.',
    addedToBalance: (amount) =>
      `El total es negativo: se abonaron ${amount} al saldo de su cuenta.`,
    reverseCharge: 'Inversión del sujeto pasivo: el destinatario liquida el impuesto.',
    exempt: (reason) =>
      reason === '' ? 'Exento de impuestos.' : `Exento de impuestos: ${reason}.`,
    currency: (code) => `Todos los importes en ${code}.`,
    unprintable:
      'Los caracteres mostrados como □ no están en ninguna fuente de este archivo; la página web los muestra.',
  },
  page: (page, pages) => `Página ${page} de ${pages}`,
};

const ja: Words = {
  language: 'ja',
  invoice: (number) => `請求書 ${number}`,
  creditNote: (number) => `クレジットノート ${number}`,
  draftNumber: '(下書き)',
  colon: ': ',
  billedTo: '請求先',
  creditedTo: '返金先',
  taxId: '税務番号',
  marks: {
    draft: '下書き',
    open: '未払い',
    failed: '支払い失敗',
    paid: '支払い済み',
    void: '無効',
    uncollectible: '未回収',
  },
  facts: {
    period: '対象期間',
    issued: '発行日',
    due: '支払期限',
    paid: '支払日',
    voided: '無効日',
    plan: 'プラン',
    replaces: '差替え元',
    replacedBy: '差替え先',
    forInvoice: '対象の請求書',
    reason: '理由',
  },
  reasons: {
    duplicate: '重複請求',
    mistake: '誤請求',
    service_issue: 'サービスの不具合',
    goodwill: 'お詫び',
    cancellation: '解約',
    other: 'その他',
  },
  table: { heading: '明細', item: '項目', amount: '金額' },
  sums: {
    subtotal: '小計',
    discount: '割引',
    tax: '税',
    reverseCharge: 'リバースチャージ',
    taxBase: (base) => `対象 ${base}`,
    included: (tax) => `内 ${tax}`,
    total: '合計',
    totalCredited: '返金合計',
    fromBalance: '残高から充当',
    toBalance: '残高に追加',
    amountDue: 'お支払い金額',
    creditNote: (number, date) => `クレジットノート ${number}、${date}`,
    leftToPay: '残りのお支払い',
    dueReduced: '未払い額から差引',
    givenToBalance: '残高に追加',
    refunded: '返金',
  },
  workings: {
    billedBefore: (total, before) => `累計 ${total} − 請求済み ${before}`,
    atLeast: (amount) => `${amount} 以上`,
    atMost: (amount) => `${amount} 以下`,
  },
  notes: {
    draft: 'これは下書きです。金額は変わることがあります。',
    void: 'この請求書は無効です。お支払いは不要です。',
    addedToBalance: (amount) => `合計がマイナスのため、${amount} を残高に追加しました。`,
    reverseCharge: 'リバースチャージ方式：役務の提供を受けた者が納税義務者となります。',
    exempt: (reason) => (reason === '' ? '免税。' : `免税：${reason}`),
    currency: (code) => `金額はすべて ${code} です。`,
    unprintable:
      '□ の文字はこのファイルのフォントにありません。ブラウザーのページでは表示されます。',
  },
  page: (page, pages) => `${page} / ${pages} ページ`,
};

const languages: Readonly<Record<string, Words>> = { en, de, fr, es, ja };

/** Words for a locale's language; English where there are none. */
export function wordsFor(locale: string): Words {
  return languages[new Intl.Locale(locale).language] ?? en;
}
