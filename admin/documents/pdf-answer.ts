import type { FileAnswer } from '../route.ts';
import { pdfOf } from './pdf-document.ts';
import type { PrintedDocument } from './printed-document.ts';

/** The PDF, saved under the document's number; a draft has none, and is saved under its id. */
export async function pdfAnswer(document: PrintedDocument, id: string): Promise<FileAnswer> {
  return {
    status: 200,
    file: await pdfOf(document),
    media: 'application/pdf',
    fileName: `${document.number ?? `draft-${id}`}.pdf`,
  };
}
